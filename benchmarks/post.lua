-- The request of all cases for wrk: `wrk ... -s post.lua URL -- BODY_FILE`. Prints its figures as one line of JSON.

function init(args)
   local file = io.open(args[1], "rb")
   wrk.method = "POST"
   wrk.body = file:read("*a")
   wrk.headers["Authorization"] = "Bearer none"
   wrk.headers["Content-Type"] = "application/json"
   file:close()
end

function done(summary, latency, requests)
   local e = summary.errors
   local line = '{"requests": %d, "wall_s": %f, "errors": %d, "p50_s": %f, "p99_s": %f}\n'
   local errors = e.connect + e.read + e.write + e.status + e.timeout
   io.write(string.format(line, summary.requests, summary.duration / 1e6, errors,
      latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end

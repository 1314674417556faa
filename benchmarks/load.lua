-- wrk's script: book a slot of its own with each request, or with no slot given just GET.
--
-- wrk -s load.lua URL -- [first slot [pause]]; slots are those of slots.py. With a pause, which is in
-- milliseconds, each connection rests before each request, as long as that on average. The last line
-- printed is JSON.

local headers = { ["Content-Type"] = "application/json" }
local first_time = 1798761600 -- 2027-01-01T00:00:00Z
local offices = 100

function init(arguments)
  local slot = tonumber(arguments[1])
  if not slot then
    return
  end
  request = function()
    local time = os.date("!%Y-%m-%dT%H:%M:%S", first_time + math.floor(slot / offices) * 900)
    local body = '{"patient_name":"Иван Иванов","office_number":"room ' .. slot % offices
      .. '","date_time":"' .. time .. '"}'
    slot = slot + 1
    return wrk.format("POST", nil, headers, body)
  end
  local pause = tonumber(arguments[2])
  if pause then
    delay = function()
      return math.random(0, 2 * pause)
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_ms":%.4f,"p99_ms":%.4f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000
  ))
end

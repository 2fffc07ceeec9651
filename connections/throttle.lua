-- Token buckets, one per key: a string 'tokens microseconds'. See throttle.py.
--
-- ARGV is the number of tokens to take (below zero: to give back), then burst and refill per second of each key. The
-- answer is the seconds to wait, as text; '0' when every bucket had the tokens, and only then they are taken.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local amount = tonumber(ARGV[1])
local left, wait = {}, 0

for number, key in ipairs(KEYS) do
  local burst, refill = tonumber(ARGV[2 * number]), tonumber(ARGV[2 * number + 1])
  local tokens, at = burst, now
  local kept = redis.call('GET', key)
  if kept then
    tokens, at = string.match(kept, '(%S+) (%S+)')
  end
  left[number] = math.min(burst, tokens + math.max(0, now - at) / 1000000 * refill) - amount
  if left[number] < -0.000001 then
    wait = math.max(wait, -left[number] / refill)
  end
end

if wait == 0 then
  for number, key in ipairs(KEYS) do
    local burst, refill = tonumber(ARGV[2 * number]), tonumber(ARGV[2 * number + 1])
    local kept = math.min(burst, left[number])
    local full_again = math.ceil((burst - kept) / refill * 1000) + 1000
    redis.call('SET', key, string.format('%.6f %.0f', kept, now), 'PX', full_again)
  end
end
return string.format('%.3f', wait)

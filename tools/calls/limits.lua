-- The limits of calls over all processes: token buckets, semaphores and circuit breakers. See limits.py.
--
-- ARGV[1] is JSON: {{failures, first pause, longest pause}, {request, ...}}, pauses in seconds. A request is its verb
-- and the arguments of it; a bound below zero is no bound. The answer is JSON: for each request 0, or what it asked
-- for, or the refusal {code, seconds to wait, number, Unix time of the next try or 0}.
--
-- The clock is the server's, in microseconds. Every key expires.

local HOUR = 3600 * 1000000
local OPEN = 'duvo:limits:breakers'  -- zset: connection -> when its pause is over

local message = cjson.decode(ARGV[1])
local most_failures, first_pause, longest_pause = unpack(message[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function key(kind, id)
  return 'duvo:limits:' .. kind .. ':' .. id
end

-- Semaphores: a zset of slots, each with the time when its lease ends.

local function has_room(slots, bound)
  if bound < 0 or redis.call('ZCARD', slots) < bound then
    return true
  end
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
  return redis.call('ZCARD', slots) < bound
end

local function hold(slots, bound, id, lease)
  if bound >= 0 then
    redis.call('ZADD', slots, now + lease * 1000000, id)
    redis.call('PEXPIRE', slots, math.ceil(lease * 1000) + HOUR / 1000)
  end
end

-- Token buckets: a string 'tokens microseconds', as many tokens as calls per minute, refilled continuously.

local function tokens_in(bucket, rate)
  local kept = rate >= 0 and redis.call('GET', bucket)
  if not kept then
    return rate
  end
  local tokens, at = string.match(kept, '(%S+) (%S+)')
  return math.min(rate, tokens + math.max(0, now - at) * rate / 60000000)
end

local function is_empty(tokens, rate)
  return rate >= 0 and tokens < 0.999999  -- tokens are fractions, and rounding may leave one just below 1
end

local function seconds_to_token(tokens, rate)
  return rate > 0 and (1 - tokens) * 60 / rate or 60
end

local function take(bucket, tokens, rate)
  if rate >= 0 then
    local left = tokens - 1
    local full_again = math.ceil((rate - left) * 60000 / rate) + 1000
    redis.call('SET', bucket, string.format('%.9f %.0f', left, now), 'PX', full_again)
  end
end

-- Quotas: how many calls of an organization are open, counted anew every few seconds (usage.py; while nobody counts
-- there is no bound), and the bytes that its calls have added since what it stores was last measured.

local OPEN_CALLS = 'duvo:limits:open'

local function is_full(tenant, room)
  return room >= 0 and tonumber(redis.call('GET', key('stored', tenant)) or 0) >= room
end

local function store(tenant, size)
  if size > 0 then
    redis.call('INCRBY', key('stored', tenant), math.floor(size))
    redis.call('PEXPIRE', key('stored', tenant), 48 * HOUR / 1000)
  end
end

-- Breakers: a hash with the failures in a row; once open also pause, end of the pause, probe and the probe's end.

local function open(breaker, connection, pause)
  local over = now + pause * 1000000
  redis.call('HDEL', breaker, 'probe', 'probe_until')
  redis.call('HSET', breaker, 'pause', pause, 'over', over)
  redis.call('PEXPIRE', breaker, math.ceil(pause * 1000) + HOUR / 1000)
  redis.call('ZREMRANGEBYSCORE', OPEN, '-inf', now - HOUR)
  redis.call('ZADD', OPEN, over, connection)
  redis.call('PEXPIRE', OPEN, math.ceil(longest_pause * 1000) + 2 * HOUR / 1000)
end

local function probe(breaker, id, lease)
  redis.call('HSET', breaker, 'probe', id, 'probe_until', now + lease * 1000000)
  redis.call('PEXPIRE', breaker, math.ceil(lease * 1000) + HOUR / 1000)
end

local function failed(breaker, connection, id, reached)
  local failures = redis.call('HINCRBY', breaker, 'failures', 1)
  if reached then  -- it answered with a failure
    redis.call('HINCRBY', breaker, 'reached', 1)
  end
  local pause, probing = unpack(redis.call('HMGET', breaker, 'pause', 'probe'))
  if not pause then
    redis.call('PEXPIRE', breaker, HOUR / 1000)
    if failures >= most_failures then
      open(breaker, connection, first_pause)
    end
  elseif probing == id then  -- calls that were on their way when it opened say nothing new
    open(breaker, connection, math.min(longest_pause, pause * 2))
  end
end

local verbs = {}

function verbs.count(assignment, rate, tenant, most_open, room, size)
  if is_full(tenant, room) then
    return {'stored', 3600, room, 0}
  end
  local counted = most_open >= 0 and redis.call('EXISTS', OPEN_CALLS) == 1
  if counted and tonumber(redis.call('HGET', OPEN_CALLS, tenant) or 0) >= most_open then
    return {'open_calls', 10, most_open, 0}
  end
  local bucket = key('assignment', assignment)
  local tokens = tokens_in(bucket, rate)
  if is_empty(tokens, rate) then
    return {'assignment_rate', seconds_to_token(tokens, rate), rate, 0}
  end
  take(bucket, tokens, rate)
  store(tenant, size)
  if counted then
    redis.call('HINCRBY', OPEN_CALLS, tenant, 1)
  end
  return 0
end

-- What else is counted per minute.

function verbs.spend(kind, owner, rate)
  local bucket = key(kind, owner)
  local tokens = tokens_in(bucket, rate)
  if is_empty(tokens, rate) then
    return {kind, seconds_to_token(tokens, rate), rate, 0}
  end
  take(bucket, tokens, rate)
  return 0
end

-- Who follows: streams and waiters of one assignment, each a slot of its own, and one of its organization.

function verbs.acquire_follower(id, lease, kind, assignment, most, tenant, most_of_tenant)
  local slots, of_tenant = key(kind, assignment), key('tenant-' .. kind, tenant)
  if not redis.call('ZSCORE', slots, id) then
    if not has_room(slots, most) then
      return {kind, 1, most, 0}
    elseif not has_room(of_tenant, most_of_tenant) then
      return {'organization_' .. kind, 1, most_of_tenant, 0}
    end
  end
  hold(slots, most, id, lease)
  hold(of_tenant, most_of_tenant, id, lease)
  return 0
end

function verbs.release_follower(id, kind, assignment, tenant)
  redis.call('ZREM', key(kind, assignment), id)
  redis.call('ZREM', key('tenant-' .. kind, tenant), id)
  return 0
end

function verbs.store(tenant, size)
  store(tenant, size)
  return 0
end

function verbs.acquire(id, lease, tenant, most_of_tenant, connection, most_of_connection, rate, assignment, own_rate,
    room, size)
  if is_full(tenant, room) then
    return {'stored', 3600, room, 0}
  end
  local breaker = key('breaker', connection)
  local over, probed_until, failures, reached = unpack(
    redis.call('HMGET', breaker, 'over', 'probe_until', 'failures', 'reached'))
  if over and tonumber(over) > now then
    return {'circuit_open', (over - now) / 1000000, tonumber(failures), over / 1000000, tonumber(reached or 0)}
  elseif probed_until and tonumber(probed_until) > now then
    return {'circuit_open', 1, tonumber(failures), 0, tonumber(reached or 0)}
  end
  local of_tenant, of_connection = key('tenant-slots', tenant), key('slots', connection)
  if not has_room(of_tenant, most_of_tenant) then
    return {'organization_busy', 1, most_of_tenant, 0}
  elseif not has_room(of_connection, most_of_connection) then
    return {'connection_busy', 1, most_of_connection, 0}
  end
  local bucket, own_bucket = key('connection', connection), key('assignment', assignment)
  local tokens, own_tokens = tokens_in(bucket, rate), tokens_in(own_bucket, own_rate)
  if is_empty(tokens, rate) then
    return {'connection_rate', seconds_to_token(tokens, rate), rate, 0}
  elseif is_empty(own_tokens, own_rate) then
    return {'assignment_rate', seconds_to_token(own_tokens, own_rate), own_rate, 0}
  end
  take(bucket, tokens, rate)
  take(own_bucket, own_tokens, own_rate)
  store(tenant, size)
  hold(of_tenant, most_of_tenant, id, lease)
  hold(of_connection, most_of_connection, id, lease)
  if over then
    probe(breaker, id, lease)
  end
  return 0
end

function verbs.release(id, tenant, connection, signal)
  redis.call('ZREM', key('tenant-slots', tenant), id)
  redis.call('ZREM', key('slots', connection), id)
  local breaker = key('breaker', connection)
  if signal == 'answered' then
    if redis.call('DEL', breaker) == 1 then
      redis.call('ZREM', OPEN, connection)
    end
  elseif signal == 'transport_failed' then
    failed(breaker, connection, id, false)
  elseif signal == 'server_failed' then
    failed(breaker, connection, id, true)
  elseif redis.call('HGET', breaker, 'probe') == id then
    redis.call('HDEL', breaker, 'probe', 'probe_until')
  end
  return 0
end

function verbs.renew(id, lease, tenant, most_of_tenant, connection, most_of_connection)
  hold(key('tenant-slots', tenant), most_of_tenant, id, lease)
  hold(key('slots', connection), most_of_connection, id, lease)
  local breaker = key('breaker', connection)
  if redis.call('HGET', breaker, 'probe') == id then
    probe(breaker, id, lease)
  end
  return 0
end

function verbs.breakers()
  local paused = redis.call('ZCOUNT', OPEN, '(' .. string.format('%.0f', now), '+inf')
  local trying = redis.call('ZCOUNT', OPEN, now - HOUR, now)
  return {paused, trying}
end

local answers = {}
for number, request in ipairs(message[2]) do
  answers[number] = verbs[request[1]](unpack(request, 2))
end
return cjson.encode(answers)

-- What every script starts with: names for the calls, the time, the cookie (Q9).
local spread, call, pack, unpack = unpack, redis.call, struct.pack, struct.unpack
local TIME = call('TIME')
local now = TIME[1] * 1000 + math.floor(TIME[2] / 1000)

-- Refuses unless the cookie held starts with what is wanted: `pool.node.incarnation run_id`, or
-- without the run id on a durable node. The run id is the server's own, so that one comparison
-- tells another pool, another life and a restart.
local function stranger(cookie_key, wanted)
  local held = call('GET', cookie_key)
  if held and held:sub(1, #wanted) == wanted then return nil end
  return {'stranger', held or ''}
end

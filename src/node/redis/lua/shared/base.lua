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

-- Compares byte strings of one length as big-endian numbers. Lua's own `<` goes by locale, and
-- its numbers lose digits above 2^53.
local function below(a, b)
  if a == b then return false end
  for i = 1, #a do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x < y end
  end
  return false
end

-- An id as key names have it.
local function hex(producer) return ('%08x%08x'):format(unpack('>I4I4', producer)) end

-- References to messages travel as 13 bytes each: producer, block, index.
local function each_ref(raw, visit)
  for at = 1, #raw, 13 do
    local producer, number, index = unpack('<c8I4B', raw, at)
    visit(producer, number, index)
  end
end

-- Registers (Q6). `k` hash: epoch, keepers, active (0 or 1), counter of changes. `r:NAME` hash:
-- promised (16 bytes: round, proposer, big-endian), accepted (16 bytes), value, and the index as
-- given last: project, queue, listed. `log` sorted set: name by its latest change. `names` and
-- `x:PROJECT` sorted sets of score 0: names in the order of their bytes.
local NO_BALLOT = ('\0'):rep(16)

local function not_keeper(k, epoch, must_vote)
  local held = call('HMGET', k, 'epoch', 'keepers', 'active')
  if not held[1] or (must_vote and held[3] ~= '1') then return {'notkeeper'} end
  if held[1] ~= epoch then return {'epoch', held[1], held[2]} end
end

-- One change: the value, its place in the index, its place in the log of changes.
local function take(base, name, ballot, value, project, queue, listed)
  local key = base .. 'r:' .. name
  call('HSET', key, 'accepted', ballot, 'value', value)
  if listed ~= '' then
    call('HSET', key, 'project', project, 'queue', queue, 'listed', listed)
    if listed == '1' then call('ZADD', base .. 'x:' .. project, 0, queue)
    else call('ZREM', base .. 'x:' .. project, queue) end
  end
  call('ZADD', base .. 'log', call('HINCRBY', base .. 'k', 'counter', 1), name)
  call('ZADD', base .. 'names', 0, name)
end

-- A page of a sorted set of score 0, strictly after a name.
local function page(key, after, limit)
  return call('ZRANGEBYLEX', key, '(' .. after, '+', 'LIMIT', 0, limit)
end

-- The journal `P:n` of a replica that takes appends: what was noted down without a script, behind
-- one byte that the first block taken by a script brought. A record has 56 bytes: the numbers of
-- `append.lua`, then the time of arrival as the client reckoned it. Block 0 is none: the record
-- says only what was acked.
local NOTED, NOTED_LEN = '<I4I4I2I2I2I4I4I4I4I4c8c8I6', 56

-- Takes what is noted there, in its order, by the rule of the next block (Q4); whether there was
-- anything. What was sent twice, or behind a block that never came, is passed over: nobody was told
-- that it was taken. What came too late for the replica, and made the key anew, is removed.
local function take_noted(p, begin)
  local raw, m = call('GET', p .. ':n'), p .. ':m'
  if raw == EMPTY then return false end
  local held_numbers = call('HGET', m, 'h')
  if not held_numbers or held_numbers:byte(2) == 1 then
    if raw then call('UNLINK', p .. ':n') end
    return false
  end
  if not raw then
    if begin then call('SET', p .. ':n', EMPTY) end
    return false
  end
  if #raw % NOTED_LEN ~= 1 then return false end
  local role, sealed, told, producers, arrived, bytes, left, held, minexp, maxexp, cursor, picks,
    first, weight, waste = unpack(NUMBERS, held_numbers)
  local index, names, state = {}, {}, {}
  for at = 2, #raw, NOTED_LEN do
    local number, noted, sent, live, head, minttl, maxttl, maxdelay, body, size, digest, producer,
      arr = unpack(NOTED, raw, at)
    local s = state[producer]
    if not s then
      local name = ('%08x%08x'):format(unpack('>I4I4', producer))
      local known = call('HGET', m, 'p' .. name)
      s = {name = name, last = 0, noted = 0, digest = known and known:sub(9) or ''}
      if known then s.last, s.noted = unpack('<I4I4', known) end
      state[producer], names[#names + 1] = s, producer
    end
    if number == s.last + 1 then
      if arr > now then arr = now end
      if number == 1 then producers = producers + 1 end
      if live > 0 then
        if arr + minttl < minexp then minexp = arr + minttl end
        if arr + maxttl > maxexp then maxexp = arr + maxttl end
        if maxdelay > 0 then call('ZADD', p .. ':y', arr + maxdelay, arrived) end
      end
      s[#s + 1] = pack('<I4', arrived)
      index[#index + 1] = pack(INDEX, producer, number, sent, live, arr, minttl, body, head)
      arrived, bytes, left = arrived + 1, bytes + size, left + live
      weight = weight + body - 16 * live
      s.last, s.digest = number, digest
    end
    if noted > s.last then noted = s.last end
    if noted > s.noted then s.noted = noted end
  end
  call('SET', p .. ':n', EMPTY)
  if #index > 0 then call('APPEND', p .. ':i', table.concat(index)) end
  local fields = {}
  for i, producer in ipairs(names) do
    local s = state[producer]
    if #s > 0 then call('APPEND', p .. ':o:' .. s.name, table.concat(s)) end
    if s.last > 0 then
      fields[#fields + 1] = 'p' .. s.name
      fields[#fields + 1] = pack('<I4I4', s.last, s.noted) .. s.digest
    end
  end
  call('HSET', m, 'h', pack(NUMBERS, role, sealed, told, producers, arrived, bytes, left, held,
    minexp, maxexp, cursor, picks, first, weight, waste), spread(fields))
  return true
end

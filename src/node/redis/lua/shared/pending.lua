-- What a joining replica was asked of messages whose blocks have not come (Q7, Q8): the hash `P:t`,
-- by reference: 0 tombstone, 1 hold, 2 released hold; then claim, rank, times, end, till when
-- the message must live.
local PENDING = '<Bc8c12I4I8I8'
local NOBODY = {('\0'):rep(8), ('\0'):rep(12)}

local function awaits(r, producer, number)
  return joining(r) and number > (producer_of(r, producer))
end

local function unpack_pending(raw)
  if not raw then return nil end
  local w = {}
  w.kind, w.claim, w.rank, w.times, w.ends, w.till = unpack(PENDING, raw)
  w.released = w.kind == 2 and 1 or 0
  return w
end

local function pending(r, ref) return unpack_pending(call('HGET', r.p .. ':t', ref)) end

local function remember(r, ref, w)
  call('HSET', r.p .. ':t', ref, pack(PENDING, w.kind, w.claim, w.rank, w.times, w.ends, w.till))
end

local function remember_tombstone(r, ref)
  remember(r, ref, {kind = 0, claim = NOBODY[1], rank = NOBODY[2], times = 0, ends = 0, till = 0})
end

-- Calls visit(reference, what) for each hold that is remembered for a claim.
local function each_pending(r, key, visit)
  if not joining(r) then return end
  local all = call('HGETALL', r.p .. ':t')
  for at = 1, #all, 2 do
    local w = unpack_pending(all[at + 1])
    if w.kind > 0 and w.claim == key then visit(all[at], w) end
  end
end

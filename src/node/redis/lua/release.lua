-- Purpose: gives messages of a claim back (Q7); never refused for its version.
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 claim, 8 bytes; 3 all (1) or some (0); 4 references, 14 bytes a run
-- Returns: ok | stranger, held | gone
-- Atomic: the mark and what picks know of the message change together.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_replica(KEYS[2])
if not r then return {'gone'} end
local key, all, refs = ARGV[2], ARGV[3] == '1', ARGV[4]

local function release(b, first, last)
  while first <= last do
    local m, to = mark_of(r, b, first)
    to = math.min(to, last)
    if m and m.claim == key and m.released == 0 then
      leave(r, m, to - first + 1)
      local mark = {released = 1, claim = m.claim, rank = m.rank, times = m.times}
      set_marks(r, b, first, to, mark)
      touch(b)
      put_back(r, b.ord)
    end
    first = to + 1
  end
end

local function release_pending(ref, w)
  w.kind = 2
  remember(r, ref, w)
end

if all then
  each_pending(r, key, release_pending)
  local c = claim_of(r, key)
  if c then
    for at = 1, #c.refs, REF_LEN do
      local ord, index, more = unpack(REF, c.refs, at)
      local b = open_indexed(r, index_of(r, ord))
      if b then release(b, index, index + more) end
    end
    r.held = c.back == 0 and r.held - c.n or r.held
    forget_claim(r, c)
  end
else
  each_run(refs, function(producer, number, first, last)
    for index = first, joining(r) and last or -1 do
      local ref = pack('<c8I4B', producer, number, index)
      local w = pending(r, ref)
      if w and w.kind > 0 and w.claim == key then release_pending(ref, w) end
    end
    local b = open_block(r, producer, number)
    if b then release(b, first, last) end
  end)
end
save_all(r)
return {'ok'}

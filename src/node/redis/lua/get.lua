-- Purpose: messages by reference, whether claimed or delayed (Q8).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 references, 14 bytes a run
-- Returns: ok, found (a byte for each: 0 or 1), descriptions, runs | stranger, held | gone
-- Atomic: it only reads.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_current(KEYS[2])
if not r then return {'gone'} end
r.marked = call('EXISTS', r.p .. ':x') == 1
local e, found = describe(), {}
each_run(ARGV[2], function(producer, number, first, last)
  local b = open_block(r, producer, number)
  for index = first, last do
    local pos = b and present(b, index)
    if pos then add_entry(e, r, b, pos) end
    found[#found + 1] = pos and '\1' or '\0'
  end
end)
local texts, runs = described(e)
return {'ok', table.concat(found), texts, runs}

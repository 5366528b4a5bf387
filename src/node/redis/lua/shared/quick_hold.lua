-- Holds on the quick way: all is held.
local function quick_hold()
  local key, ttl, refs = ARGV[at + 1], tonumber(ARGV[at + 3]), ARGV[at + 5]
  if ARGV[at] ~= version or fresh[key] or call('HGET', prefix .. ':c', key) then return nil end
  local ends, places, n = now + ttl, {}, 0
  for from = 1, #refs, 14 do
    local producer, number, first, more = unpack('<c8I4BB', refs, from)
    local b, last = quick_named(producer, number), first + more
    if not b or last >= b.sent or b.arr + b.minttl < ends then return nil end
    if b.call == at and first <= b.last + 1 then return nil end
    b.call, b.last = at, last
    local place = quick_free(b, first, last)
    if not place then return nil end
    places[#places + 1], n = {b, place, first, more}, n + more + 1
  end
  if n == 0 then return nil end
  quick_claim(key, ARGV[at + 2], ttl, ends, places)
  return 1
end

if held_numbers then
  quick_all(quick_hold, 6)
  if added > 0 then
    call('HSET', prefix .. ':m', 'h', quick_save() .. held_numbers:sub(25))
  end
end
if at > #ARGV then return replies end

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
  while at <= #ARGV do
    local reply = quick_hold()
    if not reply then break end
    replies[#replies + 1], at = reply, at + 6
  end
  if added > 0 then
    quick_save()
    local held = pack('<I4', unpack('<I4', held_numbers, 21) + added)
    call('HSET', prefix .. ':m', 'h', held_numbers:sub(1, 20) .. held .. held_numbers:sub(25))
  end
end
if at > #ARGV then return replies end

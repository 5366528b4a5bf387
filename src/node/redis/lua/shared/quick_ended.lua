-- Writing down what deletes on the quick way have ended.

-- Nothing is left of the block.
local function quick_drop(b)
  local stored = b.stored or call('STRLEN', b.key) - b.at + 16 * b.sent
  waste = waste - (stored - b.size) - b.lost
  b.size = b.lost
  call('UNLINK', b.key)
  call('HDEL', prefix .. ':x', b.name)
  if call('EXISTS', prefix .. ':a', prefix .. ':w', prefix .. ':y') > 0 then
    for _, name in ipairs({':a', ':w', ':y'}) do call('ZREM', prefix .. name, b.name) end
  end
end

-- Something is left. Records go from one state to the next as text between states.
local function quick_cut(b)
  for _, run in ipairs(b.ended) do
    local first, raw = run[1], run[2]
    if first > 0 then raw = raw:sub(17) end
    local n = #raw / 16
    local between = {unpack('<c1' .. ('xc15'):rep(n - 1) .. 'xc14', raw)}
    between[n + 2] = nil
    call('SETRANGE', b.key, text(24 + 16 * first), table.concat(between, '\1'))
  end
  if b.marks == '' then call('HDEL', prefix .. ':x', b.name)
  else call('HSET', prefix .. ':x', b.name, b.marks) end
end

local function quick_ended(b)
  waste = waste + b.lost
  if b.alive == 0 then quick_drop(b) else quick_cut(b) end
  waste = math.max(0, waste)
  call('SETRANGE', prefix .. ':i', text(32 * b.ord + 14),
    pack('<I2I6I4I4', b.alive, b.arr, b.minttl, b.size - b.lost))
end

if held_numbers then
  given, live, held = unpack('<I8I4I4', held_numbers, 9)
  weight, waste = unpack('<I6I4', held_numbers, 53)
  quick_all(quick_delete, 5)
  if #changed > 0 then
    for _, b in ipairs(changed) do quick_ended(b) end
    local fields = {}
    for i, lost in ipairs(lost_claims) do
      local raw = lost[2].raw
      fields[2 * i - 1] = lost[1]
      fields[2 * i] = raw:sub(1, 24) .. pack('<I4', lost[2].n) .. raw:sub(29)
    end
    call('HSET', prefix .. ':c', spread(fields))
    call('HSET', prefix .. ':m', 'h', held_numbers:sub(1, 16) .. pack('<I4I4', live, held)
      .. held_numbers:sub(25, 52) .. pack('<I6I4', weight, waste))
  end
end
if at > #ARGV then return replies end

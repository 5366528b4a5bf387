-- A replica as a whole: its numbers and version, what is refused, and when it is due.
local NEVER = 281474976710655
local NO_VERSION = ('\0'):rep(8)

local function load_replica(prefix)
  local got = call('HMGET', prefix .. ':m', 'h', 'v')
  if not got[1] then return nil end
  local r = {p = prefix, version = got[2] or NO_VERSION}
  r.role, r.sealed, r.told, r.producers, r.arrived, r.bytes, r.live, r.held, r.minexp, r.maxexp,
    r.cursor, r.picks, r.first, r.weight, r.waste = unpack(NUMBERS, got[1])
  r.outlook = r.arrived == 0 and 'n' or r.sealed == 0 and 'o' or r.live == 0 and 'e' or r.maxexp
  return r
end

local function numbers(r)
  return pack(NUMBERS, r.role, r.sealed, r.told, r.producers, r.arrived, r.bytes, r.live, r.held,
    r.minexp, r.maxexp, r.cursor, r.picks, r.first, r.weight, r.waste)
end

-- Writes the numbers back, and when the replica is due if what decides that has changed.
local function save_replica(r)
  call('HSET', r.p .. ':m', 'h', numbers(r))
  local outlook = r.arrived == 0 and 'n' or r.sealed == 0 and 'o' or r.live == 0 and 'e' or r.maxexp
  if outlook == r.outlook then return end
  r.outlook = outlook
  local due, placement = r.p:sub(1, -17) .. 'due', r.p:sub(-16)
  if outlook == 'n' then return end
  local at = outlook == 'o' and now + OPEN_DUE or outlook == 'e' and now or outlook
  call('ZADD', due, at, placement)
end

-- Refusals, in the order of specs/node.md; nil if there is nothing to refuse.
local function not_sealed(r)
  if r.sealed == 0 then return {'open'} end
end

local function not_ended(r)
  if r.sealed == 0 then return {'open'} end
  if r.told == 0 then return {'endunknown'} end
end

local function joining(r) return r.role == 1 and r.told == 0 end

local function not_ended_or_joining(r)
  if not joining(r) then return not_ended(r) end
end

local function stale(r, version)
  if below(version, r.version) then return {'stale', r.version} end
end

local function raise_version(r, version)
  if below(r.version, version) then
    r.version = version
    call('HSET', r.p .. ':m', 'v', version)
  end
end

-- What `Coverage` is made of: the time and all of `P:m`.
local function coverage(r)
  return {tostring(now), call('HGETALL', r.p .. ':m')}
end

-- A producer's field in `P:m`: frontier, noted, digest of its newest block (empty: not known).
local function producer_of(r, producer)
  local raw = call('HGET', r.p .. ':m', 'p' .. hex(producer))
  if not raw then return 0, 0, '' end
  local frontier, noted = unpack('<I4I4', raw)
  return frontier, noted, raw:sub(9)
end

-- The ordinal of a producer's block, four bytes each in the string `P:o:PRODUCER`; nil if it never
-- came. It may have been dropped by an end since: its index record knows.
local function ordinal_of(prefix, producer, number)
  if number == 0 then return nil end
  local raw = call('GETRANGE', prefix .. ':o:' .. hex(producer), 4 * number - 4, 4 * number - 1)
  return #raw == 4 and (unpack('<I4', raw)) or nil
end

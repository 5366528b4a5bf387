-- Ending claims (Q7).
local REAP = 1000

local function put_all_back(r, c)
  for at = 1, #c.refs, REF_LEN do put_back(r, (unpack(REF, c.refs, at))) end
end

local function forget_claim(r, c)
  call('HDEL', r.p .. ':c', c.key)
  call('ZREM', r.p .. ':d', c.key)
  c.dirty, claims[c.key] = false, false
end

-- Puts claims back that have ended. Those beyond the limit wait for the next call: what they held
-- can be claimed all the same, only picks that have passed it learn of it later.
local function reap(r)
  local ended = call('ZRANGEBYSCORE', r.p .. ':d', '-inf', now, 'LIMIT', 0, REAP)
  for _, key in ipairs(ended) do
    local c = claim_of(r, key)
    if not c then
      call('ZREM', r.p .. ':d', key)
    elseif c.back == 1 or c.refs == '' then
      r.held = c.back == 1 and r.held or r.held - c.n
      forget_claim(r, c)
    else
      r.held, c.n, c.back, c.dirty = r.held - c.n, 0, 1, true
      put_all_back(r, c)
    end
  end
end

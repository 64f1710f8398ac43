-- http-request lua.keyward SETTINGS: asks the validator's HTTP hook about the request and notes what it said in variables
-- of the transaction. SETTINGS as "project=6666&allow_client_keys=true", or "-" for none. Needs no other Lua module.

-- Milliseconds that a validator may take. HAProxy 2.6 tries four times, so one that hangs costs four times as much.
local patience = 80

-- The headers that may carry a token; every line of each, so that two credentials are seen as two.
local carriers = { "authorization", "x-api-key" }

-- Where the validators are that their health checks find up, looked at anew after a tenth of a second.
local up, looked, turn = {}, 0, 0

local function next_validator()
  local now = core.now()
  local time = now.sec + now.usec / 1000000
  if time - looked > 0.1 then
    up, looked = {}, time
    for _, server in pairs(core.backends["keyward"].servers) do
      if string.find(server:get_stats()["status"], "^UP") then table.insert(up, server:get_addr()) end
    end
  end
  if #up == 0 then return nil end
  turn = turn + 1
  return up[turn % #up + 1]
end

core.register_action("keyward", { "http-req" }, function(txn, settings)
  txn:set_var("txn.keyward_status", 0)
  local sent = txn.http:req_get_headers()
  local headers = { ["host"] = { "keyward" }, ["x-original-uri"] = { txn.sf:url() } }
  for _, name in ipairs(carriers) do
    if sent[name] then
      headers[name] = {}
      for line = 0, #sent[name] do table.insert(headers[name], sent[name][line]) end
    end
  end
  local validator = next_validator()
  if not validator then return end
  local url = "http://" .. validator .. "/auth"
  if settings ~= "-" then url = url .. "?" .. settings end
  local answer = core.httpclient():get { url = url, headers = headers, timeout = patience }
  if not answer then return end
  local function said(name)
    local values = answer.headers and answer.headers[name]
    return values and values[0] or ""
  end
  txn:set_var("txn.keyward_project", said("x-keyward-project"))
  txn:set_var("txn.keyward_key", said("x-keyward-key"))
  txn:set_var("txn.keyward_remove", said("x-envoy-auth-headers-to-remove"))
  txn:set_var("txn.keyward_challenge", said("www-authenticate"))
  txn:set_var("txn.keyward_body", answer.body or "")
  -- Last: only a whole answer is one.
  txn:set_var("txn.keyward_status", answer.status)
end, 1)

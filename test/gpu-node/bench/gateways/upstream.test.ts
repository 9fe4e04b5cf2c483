import { expect, onTestFinished, test } from 'vitest'
import { startUpstream } from '../../../../gpu-node/bench/gateways/contenders.ts'
import { startGatewayDouble } from '../../../support/doubles/gateway-double.ts'

test('calls without a request get no receipt, so the gateway goes on to accept heartbeats and receipts', async () => {
  const gateway = await startGatewayDouble('bench')
  onTestFinished(() => gateway.close())
  const upstream = await startUpstream()
  onTestFinished(() => upstream.stop())
  const { url: gatewayUrl, secret, nodeId } = gateway
  await upstream.attach({ gatewayUrl, secret, nodeId })
  const nodeUrl = gateway.heartbeats[0]?.url ?? ''
  await gateway.callNode(nodeUrl, 'POST', '/rpc/describe', { model: 'm', texts: ['a'], maxTokens: 8 })
  const request = { model: 'm', messages: [{ role: 'user', content: 'Hello' }] }
  const call = { requestId: 'request-1', domain: 'law', sample: false, attestation: 'a'.repeat(64), request }
  await gateway.callNode(nodeUrl, 'POST', '/rpc/chat-completions', call)
  await expect.poll(() => [...gateway.receipts.keys()]).toEqual(['request-1'])
  const before = gateway.heartbeats.length
  await expect.poll(() => gateway.heartbeats.length).toBeGreaterThan(before)
})

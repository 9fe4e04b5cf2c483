import { createHash } from 'node:crypto'
import { expect, onTestFinished, test } from 'vitest'
import { createGatewayClient } from '../../../../gpu-node/src/serving/control/gateway-client.ts'
import { startGatewayDouble } from '../../../support/doubles/gateway-double.ts'

async function send(sizeBytes: number, maskPartBytes: number) {
  const gateway = await startGatewayDouble()
  onTestFinished(() => gateway.close())
  const bytes = Uint8Array.from({ length: sizeBytes }, (_, index) => index % 251)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const client = createGatewayClient({
    baseUrl: gateway.url,
    nodeId: gateway.nodeId,
    secret: gateway.secret,
    maskPartBytes,
  })
  await client.uploadMask(sha256, new Blob([bytes]))
  expect(gateway.artifacts.get(`masks/${sha256}`)).toEqual(bytes)
  return gateway.calls.map((call) => call.replaceAll(/[0-9a-f]{64}/g, '#'))
}

test('a mask file longer than a part is sent in parts, which are joined', async () => {
  const part = 'PUT /internal/masks/#/parts/#'
  expect(await send(1000, 400)).toEqual([part, part, part, 'POST /internal/masks/#'])
})

test('a mask file of one part is sent as a whole', async () => {
  expect(await send(400, 400)).toEqual(['PUT /internal/masks/#'])
})

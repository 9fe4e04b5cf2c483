import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { createApiClient } from '../../../../gpu-node/cli/api/api-client.ts'
import { firstUpdate } from '../../../../infra/local/start/first-update.ts'

const NO_BAR = { update: () => undefined, end: () => undefined }

/** Runs a gateway that has the bundled texts, and rejects updates. */
async function rejectingGateway(): Promise<string> {
  const server = createServer((request, response) => {
    const call = `${request.method} ${request.url}`
    const bodies: Record<string, unknown> = {
      'GET /admin/masks': { data: [] },
      'GET /admin/updates': { data: [] },
      'GET /admin/holdout': { holdout: null },
      'PUT /admin/holdout': { holdout: null },
      'GET /admin/domains': { data: [] },
      'POST /admin/domains/general/texts': { domain: 'general', texts: 40, pieces: 40 },
    }
    const body = bodies[call]
    response.writeHead(body === undefined ? 422 : 200, { 'content-type': 'application/json' })
    const message = 'Too few tokens are held out.'
    const error = { message, type: 'invalid_request_error', param: 'domains', code: 'insufficient_samples' }
    response.end(JSON.stringify(body ?? { error }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

test('a rejected first update leaves the service running, and says how to try again', async () => {
  const client = createApiClient({ origin: await rejectingGateway(), apiKey: undefined, adminKey: 'admin' })
  const outcome = await firstUpdate(client, NO_BAR, new AbortController().signal)
  expect(outcome).toBe(
    'The first mask was not made: Too few tokens are held out. The dense model still serves. ' +
      'Try again with: npx copal update general',
  )
})

test('an interrupted start stays an error', async () => {
  const client = createApiClient({ origin: await rejectingGateway(), apiKey: undefined, adminKey: 'admin' })
  await expect(firstUpdate(client, NO_BAR, AbortSignal.abort())).rejects.toThrow('Too few')
})

import { env } from 'cloudflare:workers'
import { createExecutionContext, runInDurableObject, waitOnExecutionContext } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { createApp } from '../../../../gateway/src/app.ts'
import { Fleet } from '../../../../gateway/src/fleet/object/fleet.ts'
import type { Reservation } from '../../../../gateway/src/fleet/ledger/ledger-records.ts'
import { ORIGIN, sendHeartbeat, until } from '../../support/requests/gateway-requests.ts'
import { ask, createLimitedKey } from '../../support/requests/limited-requests.ts'
import { startNode } from '../../support/doubles/node-double.ts'

const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))

/** Records the requests that the fleet is asked to finish. */
function endings() {
  const finish = vi.spyOn(Fleet.prototype, 'finish')
  onTestFinished(() => finish.mockRestore())
  return finish.mock.calls
}

async function holdsOf(id: string): Promise<Reservation[]> {
  await fleet().saveCounts()
  return runInDurableObject(fleet(), async (_, { storage }) =>
    [...(await storage.list<Reservation>({ prefix: 'hold:' })).values()].filter(({ accounts }) =>
      accounts.includes(`key:${id}`),
    ),
  )
}

test('a request that got no node causes one call of the fleet, and has no reservation', async () => {
  const told = endings()
  const { id, key } = await createLimitedKey({ tokens_per_minute: 10 })
  const unserved = await createLimitedKey({ tokens_per_minute: 1_000 })
  expect((await ask(key)).status).toBe(429)
  expect((await ask(unserved.key, { model: 'nobody' })).status).toBe(404)
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(told).toEqual([])
  expect([...(await holdsOf(id)), ...(await holdsOf(unserved.id))]).toEqual([])
})

test('the reservation of a request without a response is returned, also if no other node follows', async () => {
  const told = endings()
  const { id, key } = await createLimitedKey({ tokens_per_minute: 1_000 })
  const node = await startNode('metering-1', [{ kind: 'drop' }])
  await sendHeartbeat(node, 'metering')
  expect((await ask(key, { model: 'metering' })).status).toBe(503)
  await until('it to be ended', async () => (told.length > 0 ? true : undefined))
  expect(await holdsOf(id)).toEqual([])
})

test('the reservation of a request whose node was full when its client disconnected is returned', async () => {
  const { id, key } = await createLimitedKey({ tokens_per_minute: 1_000 })
  const node = await startNode('metering-2', [{ kind: 'hang' }])
  await sendHeartbeat(node, 'leaving')
  const client = new AbortController()
  const full = { error: { code: 'overloaded', message: 'The queue is full.', type: 'x', param: null } }
  // The response of a node and the end of the client's connection cannot be timed so otherwise.
  const NODE_CERTIFICATE = {
    fetch: async () => {
      client.abort()
      return Response.json(full, { status: 429 })
    },
  }
  const request = new Request(`${ORIGIN}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify({ model: 'leaving', prompt: 'x' }),
    signal: client.signal,
  })
  const context = createExecutionContext()
  await createApp().request(request, {}, { ...env, NODE_CERTIFICATE }, context)
  await waitOnExecutionContext(context)
  expect(await holdsOf(id)).toEqual([])
})

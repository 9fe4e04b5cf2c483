import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { ModelEntry, ModelList } from '@copal/shared/wire/model-list.ts'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import { sendHeartbeat, createKey, errorOf, get, post } from '../../support/requests/gateway-requests.ts'
import { activate, seedMask, seedMasks } from '../../support/state/seed-masks.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'

let key: string
let newer: NodeDouble
let older: NodeDouble

beforeAll(async () => {
  key = (await createKey({ allowedModels: ['tiny'] })).key
  newer = await startNode('versions-1', [{ kind: 'answer', body: '{"from":"newer"}' }])
  older = await startNode('versions-2', [{ kind: 'answer', body: '{"from":"older"}' }])
  await heartbeats()
  for (const version of [11, 12, 13])
    await seedMask('tiny', version, {
      method: 'copal',
      sparsity: version / 100,
      domains: ['code'],
      createdAt: version,
    })
  for (const version of [12, 13]) await activate('tiny', version)
})

const ready = (version: number) => ({ version, state: 'ready', requests: 0 }) as const

/** Both nodes serve m13; only the busier one still holds m12, and it is dropping m11. */
async function heartbeats(): Promise<void> {
  await sendHeartbeat(newer, 'tiny', { activeVersion: 13, weightSets: [ready(0), ready(13)] })
  await sendHeartbeat(older, 'tiny', {
    activeVersion: 13,
    weightSets: [ready(0), { ...ready(11), state: 'draining' }, ready(12), ready(13)],
    load: { running: 5, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 4096 },
  })
}
// A node without a heartbeat for long gets no requests.
beforeEach(heartbeats)

const ask = (model: string) =>
  post(key, '/v1/chat/completions', { model, messages: [{ role: 'user', content: 'x' }] })
const lastCall = async (node: NodeDouble) => JSON.parse((await node.calls()).at(-1)?.body ?? '{}') as ChatCall

describe('a request', () => {
  test('that names a mask goes to a node that holds it, with the version and the model’s own name', async () => {
    const response = await ask('tiny@mask-12')
    expect(response.headers.get('x-copal-node')).toBe('versions-2')
    expect(response.headers.get('x-copal-mask')).toBe('12')
    expect(await lastCall(older)).toMatchObject({ maskVersion: 12, request: { model: 'tiny' } })
  })

  test('that names dense goes to the least loaded node that holds it, and one without a version to the active mask', async () => {
    expect((await ask('tiny@dense')).headers.get('x-copal-node')).toBe('versions-1')
    expect(await lastCall(newer)).toMatchObject({ maskVersion: 0, request: { model: 'tiny' } })
    expect((await ask('tiny')).headers.get('x-copal-mask')).toBe('13')
    expect(await lastCall(newer)).not.toHaveProperty('maskVersion')
  })

  test('for a mask that no node holds any more is a 404 that names the available versions', async () => {
    for (const gone of ['tiny@mask-11', 'tiny@mask-99']) {
      const response = await ask(gone)
      expect(response.status).toBe(404)
      expect(await errorOf(response)).toEqual({
        code: 'model_not_found',
        type: 'invalid_request_error',
        param: 'model',
        message: `No node holds '${gone}'. Available now: 'tiny@mask-13', 'tiny@mask-12', 'tiny@dense'.`,
      })
    }
  })

  test('for a mask that nodes are about to load is a 503 with Retry-After', async () => {
    await sendHeartbeat(older, 'tiny', { activeVersion: 13, weightSets: [ready(13)] })
    const response = await ask('tiny@mask-12')
    expect(response.status).toBe(503)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await errorOf(response)).message).toBe(
      "No node holds 'tiny@mask-12' now. Available now: 'tiny@mask-13', 'tiny@dense'. Try again in 5 s.",
    )
  })

  test('with anything else after the @ is a 404 that says what is expected', async () => {
    for (const name of ['tiny@', 'tiny@latest', 'tiny@mask-0', 'tiny@mask-012', 'tiny@mask-1@dense']) {
      const response = await ask(name)
      expect([name, response.status]).toEqual([name, 404])
      expect(await errorOf(response)).toMatchObject({
        param: 'model',
        message: expect.stringContaining("like 'tiny@mask-12'") as string,
      })
    }
  })
})

describe('the list of models', () => {
  test('contains each model, followed by every version that a request can name', async () => {
    const { data } = await (await get('/v1/models', key)).json<ModelList>()
    expect(data.map(({ id, copal }) => [id, copal.mask_version, copal.sparsity, copal.nodes])).toEqual([
      ['tiny', 13, 0.13, 2],
      ['tiny@mask-13', 13, 0.13, 2],
      ['tiny@mask-12', 12, 0.12, 1],
      ['tiny@dense', 0, 0, 2],
    ])
  })

  test('returns one entry by its name, escaped or not, and lists the others for an unknown name', async () => {
    for (const path of ['tiny@mask-12', 'tiny%40mask-12']) {
      const entry = await (await get(`/v1/models/${path}`, key)).json<ModelEntry>()
      expect(entry).toMatchObject({ id: 'tiny@mask-12', copal: { mask_version: 12, method: 'copal' } })
    }
    const gone = await get('/v1/models/tiny@mask-11', key)
    expect(gone.status).toBe(404)
    expect((await errorOf(gone)).message).toContain("'tiny@mask-12'")
  })
})

test('more versions than a statement has parameters are all listed', async () => {
  const versions = Array.from({ length: 120 }, (_, index) => index + 1)
  const node = { id: 'crowded-1', url: 'http://127.0.0.1:9' }
  await sendHeartbeat(node, 'crowded', { activeVersion: 1, weightSets: versions.map(ready) })
  await seedMasks('crowded', versions, { active: null })
  const { data } = await (await get('/v1/models', (await createKey()).key)).json<ModelList>()
  expect(data.filter(({ id }) => id.startsWith('crowded@'))).toHaveLength(versions.length)
})

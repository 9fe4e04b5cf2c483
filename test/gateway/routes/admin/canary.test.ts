import { env } from 'cloudflare:workers'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { MaskEntry, StatusReport } from '@copal/shared/wire/admin.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import type { CanaryReport } from '@copal/shared/wire/admin-trials.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertDecision } from '../../../../gateway/src/storage/db/queries/decision-queries.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { conversationKey } from '../../../../gateway/src/fleet/client/conversation-key.ts'
import { isAssigned } from '../../../../gateway/src/fleet/object/trial-assignment.ts'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
import {
  sendHeartbeat,
  createKey,
  errorOf,
  get,
  post,
  receiptOf,
  signedPost,
} from '../../support/requests/gateway-requests.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'
import { activate, seedMask } from '../../support/state/seed-masks.ts'

const ready = (version: number) => ({ version, state: 'ready', requests: 0 }) as const
const sha256Of = (version: number) => String(version).repeat(64).slice(0, 64)

let node: NodeDouble
/** Conversations of one key, by their first prompts, of the largest share: one of the half that a canary m5 has, and one that is not. */
let key: { id: string; key: string }
let inside: string
let outside: string
/** The weight sets that the node reports. */
let held: Partial<Heartbeat> = {}
const heartbeat = () => sendHeartbeat(node, 'tiny', held)

beforeAll(async () => {
  node = await startNode('canary-1', [{ kind: 'answer', body: '{"ok":1}' }])
  await heartbeat()
  // m7 was never active.
  for (const version of [4, 5, 6, 7])
    await seedMask('tiny', version, { sha256: sha256Of(version), promotedAt: version === 7 ? null : 1 })
  await activate('tiny', 4)
  key = await createKey()
  const isIn = (prompt: string, version: number, share: number) =>
    isAssigned('canary', { version, share }, 'tiny', conversationKey(key.id, prompt))
  const prompts = Array.from({ length: 40 }, (_, index) => `conversation ${index}`).filter((prompt) =>
    [0, 5, 6].every((version) => isIn(prompt, version, 0.9)),
  )
  const [one, other] = [true, false].map((side) => prompts.find((prompt) => isIn(prompt, 5, 0.5) === side))
  if (one === undefined || other === undefined)
    throw new Error('all conversations are on one side: run it again')
  inside = one
  outside = other
  held = { activeVersion: 4, weightSets: [ready(0), ready(4)] }
})
// A node without a heartbeat for long gets no requests.
beforeEach(heartbeat)

const ask = async (prompt: string, model = 'tiny') => {
  const response = await post(key.key, '/v1/completions', { model, prompt, max_tokens: 3 })
  const call = JSON.parse((await node.calls()).at(-1)?.body ?? '') as ChatCall
  return [response.status, response.headers.get('x-copal-mask'), call.maskVersion]
}
const start = (body: object) => admin('PUT', '/canary', body)

describe('a canary', () => {
  test('is rejected with instructions for a mask that cannot be a canary', async () => {
    for (const [body, status, param] of [
      [{ mask_version: 4, share: 0.5 }, 409, 'mask_version'],
      [{ mask_version: 9, share: 0.5 }, 404, 'mask_version'],
      [{ mask_version: 5, share: 0 }, 400, 'share'],
      [{ mask_version: 5, share: 1 }, 400, 'share'],
      [{ mask_version: 5 }, 400, 'share'],
      [{ mask_version: 5, share: 0.5, model: 'none' }, 404, 'model'],
      [{ mask_version: 5, share: 0.5, shares: 1 }, 400, null],
    ] as const) {
      const response = await start(body)
      expect([body, response.status, (await errorOf(response)).param]).toEqual([body, status, param])
    }
    expect(await adminJson<CanaryReport>('GET', '/canary')).toMatchObject({ canary: null, versions: [] })
  })

  test('is rejected for a mask that was never active and that no gate has passed, at any share, and says what to do', async () => {
    const decide = (verdict: 'passed' | 'failed', kind: 'gate' | 'confirm' = 'gate', model = 'tiny') => {
      const decision = { model, updateId: 'update-7', maskVersion: 7, kind, verdict }
      return insertDecision(openDatabase(env.DB), { ...decision, reason: '', actor: 'copal', createdAt: 1 })
    }
    await decide('failed')
    await decide('passed', 'confirm')
    await decide('passed', 'gate', 'other')
    for (const share of [0.01, 0.9]) {
      const response = await start({ mask_version: 7, share })
      expect(response.status).toBe(409)
      const { code, param, message } = await errorOf(response)
      expect([code, param]).toEqual(['conflict', 'mask_version'])
      expect(message).toMatch(/m7 .* has not passed the gate.*'PUT \/admin\/shadow'.*'activate'.*force/)
    }
    // A shadow answers nobody.
    expect((await admin('PUT', '/shadow', { mask_version: 7, share: 0.5 })).status).toBe(200)
    await adminJson('DELETE', '/shadow')
    await decide('passed')
    expect((await start({ mask_version: 7, share: 0.01 })).status).toBe(200)
    await adminJson('DELETE', '/canary')
  })

  test('is sent to nodes, and serves no conversation before a node holds its mask', async () => {
    const report = await (await start({ mask_version: 5, share: 0.5 })).json<CanaryReport>()
    expect(report).toMatchObject({
      model: 'tiny',
      active_version: 4,
      canary: { mask_version: 5, share: 0.5 },
      nodes: { ready: 0, alive: 1, errors: [] },
    })
    const { data } = await adminJson<{ data: MaskEntry[] }>('GET', '/masks')
    const canaries = data.filter(({ canary }) => canary).map(({ version }) => version)
    expect([canaries, data.some(({ shadow }) => shadow)]).toEqual([[5], false])
    const { desired } = await heartbeat()
    expect(desired).toMatchObject({
      active: { version: 4 },
      trials: [{ version: 5, sha256: sha256Of(5) }],
    })
    expect(await ask(inside)).toEqual([200, '4', undefined])
    held.weightSets = [ready(0), ready(4), { ...ready(5), state: 'failed', error: 'out of memory' }]
    await heartbeat()
    expect(await ask(inside)).toEqual([200, '4', undefined])
    expect((await adminJson<CanaryReport>('GET', '/canary')).nodes).toEqual({
      ready: 0,
      alive: 1,
      errors: [{ node: 'canary-1', message: 'out of memory' }],
    })
  })

  test('serves the conversations of its share and no others, also of a single key, unless they name a mask version', async () => {
    held.weightSets = [ready(0), ready(4), ready(5)]
    await heartbeat()
    for (let again = 0; again < 3; again += 1) {
      expect(await ask(inside)).toEqual([200, '5', 5])
      expect(await ask(outside)).toEqual([200, '4', undefined])
    }
    expect(await ask(inside, 'tiny@mask-4')).toEqual([200, '4', 4])
  })

  test('has its own responses in the response cache', async () => {
    const keyOn = async (isInside: boolean): Promise<string> => {
      const { id, key: secret } = await createKey()
      const conversation = conversationKey(id, 'cached')
      const isOn = isAssigned('canary', { version: 5, share: 0.5 }, 'tiny', conversation)
      return isOn === isInside ? secret : keyOn(isInside)
    }
    // The same prompt is another conversation for another key.
    const keys = { inside: await keyOn(true), outside: await keyOn(false) }
    const cached = async (isInside: boolean) => {
      const headers = { 'x-copal-cache': 'true' }
      const body = { model: 'tiny', prompt: 'cached', temperature: 0 }
      const of = isInside ? keys.inside : keys.outside
      const response = await post(of, '/v1/completions', body, { headers })
      return [response.headers.get('x-copal-cache'), response.headers.get('x-copal-mask')]
    }
    expect(await cached(true)).toEqual(['miss', '5'])
    expect(await cached(false)).toEqual(['miss', '4'])
    await expect.poll(() => cached(true)).toEqual(['hit', '5'])
    await expect.poll(() => cached(false)).toEqual(['hit', '4'])
  })

  test('is compared with the active mask on the requests that both served since it began', async () => {
    const of = (id: string, changes: object) => receiptOf(`canary-receipt-${id}`, changes)
    const receipts = [
      of('1', { maskVersion: 4, drift: { tokens: 10, nllMasked: 30, nllDense: 20 } }),
      of('2', { maskVersion: 5, timeToFirstTokenMs: 20, drift: { tokens: 4, nllMasked: 13, nllDense: 8 } }),
      of('3', { maskVersion: 5, timeToFirstTokenMs: 40, drift: { tokens: 4, nllMasked: 13, nllDense: 8 } }),
      of('4', { maskVersion: 5, timeToFirstTokenMs: null, finishReason: 'error' }),
      of('5', { maskVersion: 6 }),
      of('7', { maskVersion: 4, promptTokens: 0, completionTokens: 0, finishReason: 'refused' }),
      of('6', { maskVersion: 5, model: 'other' }),
    ]
    await signedPost('/internal/nodes/receipts', { nodeId: node.id, receipts })
    // The canary had no choice of the weights that their clients named.
    const named = [4, 5].flatMap((maskVersion) =>
      (['stop', 'error'] as const).map((finishReason) => ({
        ...of(`named-${maskVersion}-${finishReason}`, {
          maskVersion,
          finishReason,
          timeToFirstTokenMs: 9_000,
        }),
        totalMs: 10_000,
        drift: { tokens: 100, nllMasked: 900, nllDense: 800 },
        namesWeights: true,
      })),
    )
    await insertReceipts(openDatabase(env.DB), node.id, named, 'node', Date.now())
    const { versions } = await adminJson<CanaryReport>('GET', '/canary')
    expect(versions).toMatchObject([
      { mask_version: 4, requests: 2, failed: 0, scored_tokens: 10, nll_masked: 3, nll_dense: 2 },
      {
        mask_version: 5,
        requests: 3,
        failed: 1,
        prompt_tokens: 30,
        completion_tokens: 15,
        time_to_first_token_ms: 30,
        total_ms: 40,
        scored_tokens: 8,
        nll_masked: 3.25,
        nll_dense: 2,
      },
    ])
    const metrics = await (await get('/metrics')).text()
    expect(metrics).toContain('copal_model_canary_share{model="tiny",mask_version="5"} 0.5\n')
    expect(metrics).toMatch(/copal_requests_total\{.*model="tiny".*mask_version="5".*\} 3\n/)
    const { models } = await adminJson<StatusReport>('GET', '/status')
    expect(models.find(({ id }) => id === 'tiny')?.canary).toMatchObject({ mask_version: 5, share: 0.5 })
  })

  test('keeps its start time when only its share changes, and includes more conversations', async () => {
    const before = await adminJson<CanaryReport>('GET', '/canary')
    const after = await (await start({ mask_version: 5, share: 0.9 })).json<CanaryReport>()
    expect(after.canary).toEqual({ ...before.canary, share: 0.9 })
    await heartbeat()
    expect(await ask(outside)).toEqual([200, '5', 5])
  })

  test('can be ended: nodes may drop its mask, and the active mask serves all conversations', async () => {
    expect(await adminJson('DELETE', '/canary?model=tiny')).toEqual({ model: 'tiny', ended: true })
    expect(await adminJson('DELETE', '/canary')).toEqual({ model: 'tiny', ended: false })
    expect((await heartbeat()).desired).not.toHaveProperty('trials')
    expect(await ask(inside)).toEqual([200, '4', undefined])
  })

  test('ends when another mask becomes active, and does not return when the old version becomes active again', async () => {
    await start({ mask_version: 6, share: 0.9 })
    held = { activeVersion: 4, weightSets: [ready(0), ready(4), ready(6)] }
    await heartbeat()
    expect(await ask(inside)).toEqual([200, '6', 6])
    await activate('tiny', 5)
    held = { activeVersion: 5, weightSets: [ready(0), ready(4), ready(5), ready(6)] }
    expect((await heartbeat()).desired).not.toHaveProperty('trials')
    expect(await ask(inside)).toEqual([200, '5', undefined])
    expect((await adminJson<CanaryReport>('GET', '/canary')).canary).toBeNull()
  })

  test('may be the dense weights, which nodes hold in any case', async () => {
    await start({ mask_version: 0, share: 0.9 })
    expect((await heartbeat()).desired).not.toHaveProperty('trials')
    expect(await ask(inside)).toEqual([200, '0', 0])
    await adminJson('DELETE', '/canary')
  })
})

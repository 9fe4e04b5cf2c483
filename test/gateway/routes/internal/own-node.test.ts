/** A compromised node: what it cannot do with its own secret and everything that the gateway sends it. */
import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { signedHeaders, SIGNATURE_HEADER, verify } from '@copal/shared/wire/signature.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { sumChargedTokens } from '../../../../gateway/src/storage/db/queries/usage-day-queries.ts'
import type { Bindings } from '../../../../gateway/src/contracts/bindings.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import {
  errorOf,
  sendHeartbeat,
  post,
  receiptOf,
  signedPost,
  signingTime,
} from '../../support/requests/gateway-requests.ts'
import { ask, createLimitedKey } from '../../support/requests/limited-requests.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'
import { TEST_NODE_SECRET } from '../../support/setup/secrets.ts'
import { withAttestations } from '../../support/requests/attested-reports.ts'

const HEARTBEAT = '/internal/nodes/heartbeat'
const RECEIPTS = '/internal/nodes/receipts'
const ANSWERS = '/internal/nodes/answers'
const CHUNKS = ['data: {"n":1}\n\n', 'data: [DONE]\n\n']
const MODEL = 'own-node'

const db = openDatabase(env.DB)
const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))
const isLeased = async (requestId: string) => (await fleet().leaseView(requestId)) !== undefined
const nodeOf = async (id: string) => (await fleet().snapshot()).nodes.find((node) => node.id === id)

/** The node that gets the requests. The compromised node `taken` has a secret of its own and gets none. */
let honest: NodeDouble
const taken = { id: 'taken', url: 'http://127.0.0.1:9' }
beforeAll(async () => {
  honest = await startNode('honest', [{ kind: 'stream', chunks: CHUNKS, ending: 'end' }])
})
beforeEach(async () => {
  await sendHeartbeat(honest, MODEL)
  await sendHeartbeat(taken, MODEL, { draining: true })
})
const lastCall = async () => {
  const call = (await honest.calls()).at(-1)
  if (!call) throw new Error('the node was not called')
  return { ...call, told: JSON.parse(call.body) as ChatCall }
}

describe('a node', () => {
  test('cannot report for another node, whichever name it signs with', async () => {
    const beforehand = await nodeOf('honest')
    const other = heartbeatOf({ id: 'honest', url: taken.url }, MODEL, { leaving: true })
    const asItself = await signedPost(HEARTBEAT, other, { as: 'taken' })
    expect([asItself.status, (await errorOf(asItself)).message]).toEqual([
      401,
      "The body names node 'honest' but is signed by node 'taken'. A node can only report for itself.",
    ])
    const secret = await nodeSecret(TEST_NODE_SECRET, 'taken')
    const asTheOther = await signedPost(HEARTBEAT, other, { secret })
    expect(asTheOther.status).toBe(401)
    expect((await errorOf(asTheOther)).message).toContain(
      "the output of 'npx copal nodes secret honest' for the",
    )
    for (const path of [RECEIPTS, ANSWERS]) {
      const told = { nodeId: 'honest', receipts: [], tenant: 'x', key: 'a'.repeat(64), ttlMs: 1, body: '' }
      const more = { ...told, maskVersion: 0, contentType: 'x' }
      expect((await signedPost(path, more, { as: 'taken' })).status).toBe(401)
    }
    expect(await nodeOf('honest')).toMatchObject({ url: beforehand?.url, draining: false })
  })

  test('is rejected with the secret that all nodes once shared', async () => {
    const shared = await signedPost(HEARTBEAT, heartbeatOf(taken, MODEL), { secret: TEST_NODE_SECRET })
    expect([shared.status, (await errorOf(shared)).code]).toEqual([401, 'invalid_signature'])
  })

  test('cannot reuse a call that was signed for another node', async () => {
    await (await ask((await createLimitedKey({})).key, { model: MODEL, stream: true })).text()
    const { path, body, headers } = await lastCall()
    const call = {
      to: 'node',
      method: 'POST',
      path,
      body: new Uint8Array(new TextEncoder().encode(body)),
    } as const
    const header = headers[SIGNATURE_HEADER]
    const opens = async (nodeId: string, of: string, as = header) =>
      verify([await nodeSecret(TEST_NODE_SECRET, of)], { ...call, nodeId }, as, Date.now())
    await opens('honest', 'honest')
    await expect(opens('taken', 'taken')).rejects.toThrow("signed for node 'honest' but reached node 'taken'")
    const renamed = header?.replace('node=honest', 'node=taken')
    await expect(opens('taken', 'taken', renamed)).rejects.toThrow('does not match')
    await expect(opens('honest', 'taken')).rejects.toThrow('does not match')
  })
})

describe('a receipt', () => {
  test('from a node that was not given the request changes nothing, and is logged once', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    onTestFinished(() => log.mockRestore())
    const { id: account, key } = await createLimitedKey({ tokens_per_month: 1_000 })
    await (await ask(key, { model: MODEL, stream: true })).text()
    const { requestId, attestation, domain } = (await lastCall()).told
    const receipt = { ...receiptOf(requestId, { account, model: MODEL, domain }), attestation }
    const used = () =>
      sumChargedTokens(db, { kind: 'key', name: account }, { fromMs: 0, beforeMs: Number.MAX_SAFE_INTEGER })
    const forged = [
      { ...receipt, promptTokens: 900 },
      { ...receipt, attestation: undefined },
      { ...receipt, attestation: 'f'.repeat(64) },
      // Attestations that were issued to this node, but for another request and for another key.
      { ...receipt, attestation: await attestationOf('taken', { requestId: `${requestId}.2` }, receipt) },
      { ...receipt, attestation: await attestationOf('taken', { account: 'key_other' }, receipt) },
    ]
    const answer = await settle('taken', forged)
    expect(await answer.json()).toEqual({ settled: 0 })
    // What earlier requests left to the background may log too.
    expect(log.mock.calls.filter(([line]) => /receipts of node/.test(String(line)))).toEqual([
      [
        `5 of 5 receipts of node 'taken' are ignored: their attestations do not match or have expired, so the node was ` +
          `not called with these requests of late. The first is ${requestId}.`,
      ],
    ])
    expect([await isLeased(requestId), await used()]).toEqual([true, 0])
    // Its hundred tokens stay reserved until the valid receipt arrives.
    const most = { model: MODEL, prompt: 'x', max_tokens: 900, stream: true }
    expect((await post(key, '/v1/completions', most)).status).toBe(429)
    expect((await settle('honest', [receipt])).status).toBe(200)
    expect([await isLeased(requestId), await used()]).toEqual([false, 15])
    expect((await post(key, '/v1/completions', most)).status).toBe(200)
  })

  test('is stored with the conversation of its call and whether that named its weights, which the node does not report', async () => {
    const { id: account, key } = await createLimitedKey({})
    const rows: Record<string, unknown>[] = []
    for (const fields of [{}, {}, { prompt: 'another' }, { model: `${MODEL}@dense` }]) {
      await (await ask(key, { model: MODEL, stream: true, ...fields })).text()
      const { requestId, attestation, domain } = (await lastCall()).told
      await settle('honest', [{ ...receiptOf(requestId, { account, model: MODEL, domain }), attestation }])
      const select = 'select conversation, names_weights from receipts where request_id = ?'
      rows.push((await env.DB.prepare(select).bind(requestId).first()) ?? {})
    }
    const [first, same, other, named] = rows
    expect(first).toEqual({ conversation: expect.any(Number) as number, names_weights: 0 })
    expect(same).toEqual(first)
    expect(other?.['conversation']).not.toBe(first?.['conversation'])
    expect(named).toEqual({ conversation: first?.['conversation'], names_weights: 1 })
  })

  test('counts only for the key, the model and the domain that the gateway attested', async () => {
    const { id: account, key } = await createLimitedKey({})
    await (await ask(key, { model: MODEL, stream: true })).text()
    const { requestId, attestation, domain } = (await lastCall()).told
    const receipt = { ...receiptOf(requestId, { account, model: MODEL, domain }), attestation }
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    onTestFinished(() => log.mockRestore())
    for (const changes of [
      { account: 'key_other' },
      { account: undefined },
      { model: 'tiny' },
      { domain: 'legal' },
    ])
      expect(await (await settle('honest', [{ ...receipt, ...changes }])).json()).toEqual({ settled: 0 })
    expect(await (await settle('honest', [receipt])).json()).toEqual({ settled: 1 })
    expect(await (await settle('honest', [receipt])).json()).toEqual({ settled: 0 })
  })
})

test('a response is cached only from the node that was asked for it, and only under the attested cache key', async () => {
  const { key } = await createLimitedKey({})
  const asked = {
    model: MODEL,
    messages: [{ role: 'user', content: 'Hello.' }],
    temperature: 0,
    stream: true,
  }
  const init = { headers: { 'x-copal-cache': 'true' } }
  await (await post(key, '/v1/chat/completions', asked, init)).text()
  const { cache, tenant } = (await lastCall()).told
  const given = { ...cache, tenant, maskVersion: 0, contentType: 'text/event-stream', body: CHUNKS.join('') }
  const refused = [
    await signedPost(ANSWERS, { ...given, nodeId: 'taken' }),
    await signedPost(ANSWERS, { ...given, nodeId: 'honest', key: '0'.repeat(64) }),
    await signedPost(ANSWERS, { ...given, nodeId: 'honest', tenant: 'another' }),
    await signedPost(ANSWERS, { ...given, nodeId: 'honest', attestation: 'f'.repeat(64) }),
  ]
  for (const response of refused)
    expect([response.status, (await errorOf(response)).param]).toEqual([400, 'attestation'])
  const again = await post(key, '/v1/chat/completions', asked, init)
  expect(again.headers.get('x-copal-cache')).toBe('miss')
  await again.text()
  expect((await signedPost(ANSWERS, { ...given, nodeId: 'honest' })).status).toBe(200)
  expect((await post(key, '/v1/chat/completions', asked, init)).headers.get('x-copal-cache')).toBe('hit')
})

test('during a rotation of the gateway secret both secrets and their attestations are valid, and afterwards only the new one', async () => {
  const next = 'node-secret-of-tomorrow-for-the-tests'
  const grace = { NODE_SECRET: next, NODE_SECRET_ALTERNATE: TEST_NODE_SECRET }
  const { id: account, key } = await createLimitedKey({})
  await (await ask(key, { model: MODEL, stream: true })).text()
  const { requestId, attestation, domain } = (await lastCall()).told
  const receipts = [{ ...receiptOf(requestId, { account, model: MODEL, domain }), attestation }]
  const told = { nodeId: 'honest', receipts }
  const status = async (changes: Partial<Bindings>, gatewaySecret: string, path: string, value: object) =>
    (await tell(changes, await nodeSecret(gatewaySecret, 'honest'), path, value)).status
  expect(await status({}, next, HEARTBEAT, heartbeatOf(honest, MODEL))).toBe(401)
  for (const secret of [TEST_NODE_SECRET, next])
    expect(await status(grace, secret, HEARTBEAT, heartbeatOf(honest, MODEL))).toBe(200)
  const settled = await tell(grace, await nodeSecret(next, 'honest'), RECEIPTS, told)
  expect(await settled.json()).toEqual({ settled: 1 })
  expect(await status({ NODE_SECRET: next }, TEST_NODE_SECRET, HEARTBEAT, heartbeatOf(honest, MODEL))).toBe(
    401,
  )
  expect(await status({ NODE_SECRET: next }, next, HEARTBEAT, heartbeatOf(honest, MODEL))).toBe(200)
})

/** Sends receipts with exactly the attestations that they have. */
async function settle(nodeId: string, receipts: readonly object[]): Promise<Response> {
  return tell({}, await nodeSecret(TEST_NODE_SECRET, nodeId), RECEIPTS, { nodeId, receipts })
}

/** Issues an attestation for a request like another one that a node was given. */
async function attestationOf(nodeId: string, changes: object, receipt: object): Promise<string | undefined> {
  const like = { ...receipt, attestation: undefined, ...changes }
  const { receipts } = (await withAttestations({ nodeId, receipts: [like] })) as {
    receipts: { attestation: string }[]
  }
  return receipts[0]?.attestation
}

/** Sends a call of node `honest`, or of the owner of `secret`, to a gateway with other secrets. */
async function tell(
  changes: Partial<Bindings>,
  secret: string,
  path: string,
  value: object,
): Promise<Response> {
  const body = new Uint8Array(new TextEncoder().encode(JSON.stringify(value)))
  const nodeId = secret.slice(0, secret.indexOf(':'))
  const headers = await signedHeaders(
    secret,
    { nodeId, to: 'gateway', method: 'POST', path, body },
    signingTime(),
  )
  const ctx = createExecutionContext()
  const response = await createApp().request(
    path,
    { method: 'POST', headers, body },
    { ...env, ...changes },
    ctx,
  )
  await waitOnExecutionContext(ctx)
  return response
}

import { once } from 'node:events'
import { request as openRequest, type IncomingMessage } from 'node:http'
import { expect, onTestFinished, test, vi } from 'vitest'
import { type ErrorBody } from '@copal/shared/errors.ts'
import type { Completion } from '@copal/shared/wire/completions.ts'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { BODY_HASH_HEADER, sign, SIGNATURE_HEADER, signedHeaders } from '@copal/shared/wire/signature.ts'
import type { WeightSet } from '../../../../../gpu-node/src/serving/contract/backend.ts'
import { arithmeticNodes, CHAT, json, PROMPT } from '../../../../support/doubles/arithmetic-node.ts'
import { createArithmeticBackend } from '../../../../support/doubles/arithmetic-backend.ts'
import { call, OTHER_SECRET, startTestNode } from '../../../../support/processes/in-process-node.ts'

const nodes = arithmeticNodes()
const { start } = nodes

test('invalid calls are rejected with an OpenAI error that names the problem', async () => {
  const { node } = await start()
  const post = async (path: string, value: unknown, options?: Parameters<typeof node.post>[2]) => {
    const response = await node.post(path, value, options)
    const body = await json<{ error: Record<string, unknown> }>(response)
    expect(Object.keys(body.error)).toEqual(['message', 'type', 'param', 'code'])
    return { status: response.status, ...body.error }
  }
  const chat = (request: object, fields?: object) =>
    post('/rpc/chat-completions', call({ ...CHAT, ...request }, fields))
  expect(await post('/rpc/chat-completions', null, { body: '{"a":' })).toMatchObject({
    status: 400,
    code: 'invalid_request',
  })
  expect(await post('/rpc/chat-completions', null, { body: '[]' })).toMatchObject({ status: 400 })
  expect(await chat({ messages: [] })).toMatchObject({ status: 400, param: 'request.messages' })
  expect(await chat({ temperature: 'hot' })).toMatchObject({ status: 400, param: 'request.temperature' })
  expect(await chat({ top_logprobs: 2 })).toMatchObject({ status: 400, param: 'request.top_logprobs' })
  expect(await chat({ model: 'gpt' })).toMatchObject({ status: 404, code: 'model_not_found', param: 'model' })
  expect(await chat({}, { domain: 'Legal!' })).toMatchObject({ status: 400, param: 'domain' })
  expect(await chat({ messages: [{ role: 'user', content: 'word '.repeat(300) }] })).toMatchObject({
    status: 400,
    code: 'context_length_exceeded',
    message: expect.stringMatching(/256 tokens and the prompt has \d{3,}/),
  })
  expect(await post('/rpc/completions', call({ ...PROMPT, prompt: [1, 99_999] }))).toMatchObject({
    status: 400,
    param: 'prompt[1]',
  })
  expect(await post('/rpc/completions', call({ ...PROMPT, prompt: [[1], [2, 99_999]] }))).toMatchObject({
    status: 400,
    param: 'prompt[1][1]',
  })
  const embed = (input: unknown) => post('/rpc/embeddings', call({ model: 'tiny', input }))
  expect(await embed([1, 99_999])).toMatchObject({ status: 400, param: 'input[1]' })
  expect(await embed([[99_999], [2]])).toMatchObject({ status: 400, param: 'input[0][0]' })
  expect(await post('/rpc/completions', call({ ...PROMPT, max_tokens: 0 }))).toMatchObject({
    status: 400,
    param: 'request.max_tokens',
  })
  expect(await post('/rpc/nothing', {})).toMatchObject({ status: 404, code: 'not_found' })
})

test('unsigned, wrongly signed and stale calls, and calls to another node, are rejected and run nothing', async () => {
  const { node, backend } = await start()
  for (const options of [
    { secret: 'another secret of sixteen bytes' },
    { signature: 'nonsense' },
    { signature: '' },
    { signature: `t=${Date.now() - 10 * 60_000},node=node-under-test,to=node,v3=${'0'.repeat(64)}` },
    { nodeId: 'another-node' },
  ]) {
    const response = await node.post('/rpc/completions', call(PROMPT), options)
    expect(response.status).toBe(401)
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_signature' } })
  }
  expect(backend.plans).toHaveLength(0)
  expect(node.receipts).toHaveLength(0)
})

test.each([1, -1])('calls are accepted after the clock of the system was set (%i h)', async (hours) => {
  const { node } = await start()
  vi.useFakeTimers({ toFake: ['Date'] })
  onTestFinished(() => void vi.useRealTimers())
  vi.setSystemTime(Date.now() + hours * 3_600_000)
  const response = await node.post('/rpc/completions', call(PROMPT))
  expect(response.status).toBe(200)
  expect(Math.abs((await json<Completion>(response)).created - Date.now() / 1000)).toBeLessThan(60)
  const [receipt] = await node.untilReceipts(1)
  expect(receipt?.totalMs).toBeGreaterThan(0)
  expect(receipt?.totalMs).toBeLessThan(60_000)
})

test('a call that the gateway signed for one node is rejected by another node, which has another secret', async () => {
  const path = '/rpc/completions'
  const body = JSON.stringify(call(PROMPT))
  const bytes = new TextEncoder().encode(body)
  const [forA, forB] = await Promise.all(
    ['node-a', 'node-b'].map((id) => nodeSecret('the secret of the gateway', id)),
  )
  const [a, b] = [
    (await start({ nodeId: 'node-a', secrets: [forA!] })).node,
    (await start({ nodeId: 'node-b', secrets: [forB!] })).node,
  ]
  const signed = { nodeId: 'node-a', to: 'node', method: 'POST', path, body: bytes } as const
  const signature = await sign(forA!, signed, Date.now())
  const renamed = signature.replace('node=node-a', 'node=node-b')
  // A call that node A could sign with its own secret.
  const made = await sign(forA!, { ...signed, nodeId: 'node-b' }, Date.now())
  for (const [given, message] of [
    [signature, "signed for node 'node-a' but reached node 'node-b'"],
    [renamed, 'does not match'],
    [made, "COPAL_NODE_SECRET of node 'node-b' to the output of 'npx copal nodes secret node-b'"],
  ] as const) {
    const refused = await b.post(path, {}, { body, signature: given })
    expect([refused.status, (await json<ErrorBody>(refused)).error.message]).toEqual([
      401,
      expect.stringContaining(message),
    ])
  }
  expect((await a.post(path, {}, { body, signature })).status).toBe(200)
  expect(b.receipts).toEqual([])
})

test('a call is accepted once, and rejected when it is sent again', async () => {
  const { node } = await start()
  const body = JSON.stringify(call(PROMPT))
  const path = '/rpc/completions'
  const bytes = new TextEncoder().encode(body)
  const signed = { nodeId: 'node-under-test', to: 'node', method: 'POST', path, body: bytes } as const
  const signature = await sign(OTHER_SECRET, signed, Date.now())
  // Signed with the next secret, which is accepted while the current one is still in use.
  expect((await node.post(path, {}, { body, signature })).status).toBe(200)
  const again = await node.post(path, {}, { body, signature })
  expect(again.status).toBe(401)
  expect(await json<ErrorBody>(again)).toMatchObject({
    error: { message: 'This call was made before. Sign every call anew.' },
  })
  expect(await node.untilReceipts(1)).toHaveLength(1)
})

test('a call is accepted once also where the clock of the system is set forward and back', async () => {
  const { node } = await start()
  const now = Date.now
  let aheadMs = 0
  const clock = vi.spyOn(Date, 'now').mockImplementation(() => now() + aheadMs)
  onTestFinished(() => clock.mockRestore())
  const path = '/rpc/completions'
  const body = JSON.stringify(call(PROMPT))
  const bytes = new TextEncoder().encode(body)
  const signed = { nodeId: 'node-under-test', to: 'node', method: 'POST', path, body: bytes } as const
  const signature = await sign(OTHER_SECRET, signed, Date.now())
  expect((await node.post(path, {}, { body, signature })).status).toBe(200)
  aheadMs = 3_600_000
  expect((await node.post(path, call(PROMPT))).status).toBe(200)
  aheadMs = 0
  expect((await node.post(path, {}, { body, signature })).status).toBe(401)
})

/** Returns the headers with which the gateway signs a call to the node under test. */
function signing(path: string, body: Uint8Array<ArrayBuffer>): Promise<Record<string, string>> {
  const signed = { nodeId: 'node-under-test', to: 'node', method: 'POST', path, body } as const
  return signedHeaders(OTHER_SECRET, signed, Date.now())
}

test('a body of 10 MB is rejected, with and without a declared length', async () => {
  const { node } = await start()
  const path = '/rpc/completions'
  const body = JSON.stringify(call({ ...PROMPT, prompt: 'x'.repeat(10 * 1024 * 1024) }))
  const declared = await node.post(path, null, { body })
  expect(declared.status).toBe(413)
  expect(await declared.json()).toMatchObject({ error: { code: 'body_too_large' } })
  const piece = new Uint8Array(1024 * 1024)
  const chunked = await fetch(node.url + path, {
    method: 'POST',
    headers: await signing(path, new Uint8Array(10 * piece.length)),
    body: new ReadableStream({
      start(controller) {
        for (let index = 0; index < 10; index++) controller.enqueue(piece)
        controller.close()
      },
    }),
    duplex: 'half',
  })
  expect(chunked.status).toBe(413)
})

test('a call without a valid signature is rejected before its body is read', async () => {
  const { node } = await start()
  const path = '/rpc/evaluate'
  const genuine = await signing(path, new Uint8Array())
  for (const headers of [
    {},
    { [SIGNATURE_HEADER]: genuine[SIGNATURE_HEADER] },
    { ...genuine, [BODY_HASH_HEADER]: 'a'.repeat(64) },
  ]) {
    // The announced body never arrives.
    const asking = openRequest(node.url + path, {
      method: 'POST',
      headers: { ...headers, 'content-length': 1000 },
    })
    asking.flushHeaders()
    const [answer] = (await once(asking, 'response')) as [IncomingMessage]
    expect(answer.statusCode).toBe(401)
    asking.destroy()
  }
})

test('a body other than the signed one is rejected', async () => {
  const { node, backend } = await start()
  const path = '/rpc/completions'
  const headers = await signing(path, new TextEncoder().encode('{}'))
  const response = await node.post(path, call(PROMPT), { headers })
  expect(response.status).toBe(401)
  expect((await json<ErrorBody>(response)).error.message).toContain('does not have the hash')
  expect(backend.plans).toHaveLength(0)
})

test('a full queue gives a 429 with Retry-After', async () => {
  const { promise: isRefusing, resolve: refuse } = Promise.withResolvers<void>()
  const { node } = await start({
    engine: { policy: { maxRunning: 1, maxWaiting: 1 } },
    arithmetic: { onStep: () => isRefusing },
  })
  const ask = async () => {
    const response = await node.post('/rpc/completions', call({ ...PROMPT, max_tokens: 3 }))
    if (response.status === 429) refuse()
    return response
  }
  const responses = await Promise.all(Array.from({ length: 4 }, ask))
  const refused = responses.filter((response) => response.status === 429)
  expect(refused.length).toBeGreaterThan(0)
  for (const response of refused) expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(responses.filter((response) => response.status === 200).length).toBeGreaterThan(1)
})

test('an unexpected failure gives a plain 500, with its cause only in the log', async () => {
  const { node } = await start({
    evaluateText: () => {
      throw new Error('secret detail')
    },
  })
  const response = await node.post('/rpc/evaluate', { model: 'tiny', maskVersion: 0, text: 'some text' })
  expect(response.status).toBe(500)
  expect(await response.text()).not.toContain('secret detail')
  expect(node.log.lines.join('\n')).toContain('secret detail')
})

test('health reports the model and the mask without a signature', async () => {
  const backend = createArithmeticBackend()
  const node = await startTestNode({ backend, model: nodes.model() })
  onTestFinished(() => node.close())
  const health = async () => (await fetch(`${node.url}/health`)).json()
  expect(await health()).toEqual({ status: 'ok', model: 'tiny', activeVersion: null, ready: false })
  node.engine.setActive(backend.weights(3) satisfies WeightSet)
  expect(await health()).toEqual({ status: 'ok', model: 'tiny', activeVersion: 3, ready: true })
})

test('a prompt that exceeds the context with even the longest tokens is rejected before it is tokenised', async () => {
  const { node } = await start()
  const encode = vi.spyOn(nodes.model().codec, 'encodeDocument')
  onTestFinished(() => encode.mockRestore())
  const response = await node.post('/rpc/completions', call({ ...PROMPT, prompt: 'word '.repeat(100_000) }))
  expect(await response.json()).toMatchObject({
    error: {
      code: 'context_length_exceeded',
      message: expect.stringMatching(/256 tokens and the text has at least \d{3,}/),
    },
  })
  expect(encode).not.toHaveBeenCalled()
})

import { AppError } from '@copal/shared/errors.ts'
import { expect, test, vi } from 'vitest'
import type { GrammarCompiler } from '../../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { HIDDEN_SIZE } from '../../../support/doubles/arithmetic-backend.ts'
import { arithmeticNodes, CHAT, PROMPT } from '../../../support/doubles/arithmetic-node.ts'
import { call } from '../../../support/processes/in-process-node.ts'
import { WAIT } from '../../../support/harness/wait.ts'

const nodes = arithmeticNodes()

/** Delays steps while it is closed. */
function createGate() {
  let closed: PromiseWithResolvers<void> | undefined
  return {
    close: () => void (closed = Promise.withResolvers()),
    open: () => closed?.resolve(),
    pass: async () => closed?.promise,
  }
}

test('a call is reported while its grammar is compiled, and no longer once its client has disconnected', async () => {
  const grammars: GrammarCompiler = {
    compile: (_source, asker) =>
      new Promise((_, reject) => {
        asker?.signal?.addEventListener('abort', () => reject(asker.signal?.reason as Error))
      }),
  }
  const { node } = await nodes.start({ grammars })
  const client = new AbortController()
  const request = { ...CHAT, response_format: { type: 'json_object' } }
  const answered = node
    .post('/rpc/chat-completions', call(request, { requestId: 'request-waits' }), { signal: client.signal })
    .catch(() => 'left')
  const named = { requestId: 'request-waits', promptTokens: 0, completionTokens: 0, idleMs: 0 }
  await vi.waitFor(() => expect(node.server.progress()).toEqual([named]), WAIT)
  expect(node.engine.progress()).toEqual([])
  client.abort()
  expect(await answered).toBe('left')
  await vi.waitFor(() => expect(node.server.progress()).toEqual([]), WAIT)
})

test('grammars are compiled for the tenant and the API key of the call', async () => {
  const owners: unknown[] = []
  const grammars: GrammarCompiler = {
    compile(_source, { tenant, account } = {}) {
      owners.push({ tenant, account })
      return Promise.reject(new AppError('invalid_request', 'it is not compiled here'))
    },
  }
  const { node } = await nodes.start({ grammars })
  const owner = { tenant: 'tenant-1', account: 'key-1' }
  const request = { ...CHAT, response_format: { type: 'json_object' } }
  await node.post('/rpc/chat-completions', call(request, owner))
  expect(owners).toEqual([owner])
})

test('a call of several prompts reports all tokens, each prompt once however many choices continue it', async () => {
  const gate = createGate()
  const progress = () => node.server.progress()[0]
  let closed = false
  // Closed between two steps, however late this test looks: all choices run then, and none has ended.
  const onStep = () => {
    if (!closed && (progress()?.completionTokens ?? 0) > 12) {
      closed = true
      gate.close()
    }
    return gate.pass()
  }
  const { node } = await nodes.start({ arithmetic: { onStep } })
  const prompt = [PROMPT.prompt, 'the dog lies there', 'a bird']
  const lengths = prompt.map((text) => nodes.model().codec.encodeDocument(text).length)
  const response = await node.post('/rpc/completions', call({ ...PROMPT, prompt, n: 2, stream: true }))
  await vi.waitFor(() => expect(progress()?.completionTokens).toBeGreaterThan(12), WAIT)
  expect(progress()?.promptTokens).toBe(lengths.reduce((sum, length) => sum + length))
  gate.open()
  await response.text()
  await vi.waitFor(() => expect(node.server.progress()).toEqual([]), WAIT)
})

test('a call of several choices reports how long it waits for its first token, until it has one', async () => {
  let steps = 0
  const { promise: held, resolve: goOn } = Promise.withResolvers<void>()
  const { node } = await nodes.start({
    engine: { policy: { prefillChunk: 4 } },
    arithmetic: { onStep: async () => (++steps === 2 ? held : undefined) },
  })
  const prompt = 'the other party '.repeat(8)
  const response = node.post('/rpc/completions', call({ ...PROMPT, prompt, n: 2, stream: true }))
  await vi.waitFor(() => expect(node.server.progress()[0]?.firstTokenWaitMs ?? 0).toBeGreaterThan(50), WAIT)
  goOn()
  await (await response).text()
  expect(node.server.progress().every(({ firstTokenWaitMs }) => firstTokenWaitMs === undefined)).toBe(true)
})

test('ended parts of a call are reported until the whole call has ended', async () => {
  let steps = 0
  const { promise: held, resolve: goOn } = Promise.withResolvers<void>()
  const { node } = await nodes.start({
    engine: { config: { ...nodes.model().config, hiddenSize: HIDDEN_SIZE }, policy: { maxRunning: 1 } },
    arithmetic: { onStep: async () => (++steps === 15 ? held : undefined) },
  })
  const input = Array.from({ length: 20 }, (_, index) => `text number ${index}`)
  const ended = input.slice(0, 14).map((text) => nodes.model().codec.encodeDocument(text).length)
  const answered = node.post('/rpc/embeddings', call({ model: 'tiny', input }))
  await vi.waitFor(() => expect(steps).toBe(15), WAIT)
  expect(node.server.progress()).toMatchObject([
    { promptTokens: ended.reduce((sum, length) => sum + length), completionTokens: 0 },
  ])
  goOn()
  expect((await answered).status).toBe(200)
  expect(node.server.progress()).toEqual([])
})

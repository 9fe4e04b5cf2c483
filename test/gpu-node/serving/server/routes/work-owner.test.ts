import { expect, onTestFinished, test } from 'vitest'
import type { Caller } from '../../../../../gpu-node/src/serving/server/prompts/encoder.ts'
import { chatCompletions } from '../../../../../gpu-node/src/serving/server/routes/chat-completions-route.ts'
import { completions } from '../../../../../gpu-node/src/serving/server/routes/completions-route.ts'
import type { InferenceRouteDeps } from '../../../../../gpu-node/src/serving/server/routes/route-deps.ts'
import { responses } from '../../../../../gpu-node/src/serving/server/routes/responses-route.ts'
import { openTinyModel } from '../../../../support/models/tiny-model.ts'
import { call } from '../../../../support/processes/in-process-node.ts'

test.each([
  ['chat completion', chatCompletions, { messages: [{ role: 'user', content: 'Hello.' }] }],
  ['completion', completions, { prompt: 'Hello.' }],
  ['response', responses, { input: 'Hello.' }],
])('the prompt of a %s takes turns with those of its tenant and account', async (_, route, request) => {
  const tiny = await openTinyModel()
  onTestFinished(() => tiny.remove())
  const callers: (Caller | undefined)[] = []
  const deps: InferenceRouteDeps = {
    model: tiny.model,
    encoder: {
      contextCharacters: 100,
      async encode(texts, _kind, caller) {
        callers.push(caller)
        return texts.map(() => [1])
      },
    },
    grammars: { compile: () => Promise.reject(new Error('no grammar is needed')) },
    async generate({ prepare }) {
      await prepare(new AbortController().signal)
      return new Response()
    },
    read: async () => call({ model: 'tiny', ...request }, { tenant: 'tenant-1', account: 'key-1' }),
  }
  expect((await route(deps).request('/', { method: 'POST' })).status).toBe(200)
  expect(callers).toEqual([expect.objectContaining({ tenant: 'tenant-1', account: 'key-1' })])
})

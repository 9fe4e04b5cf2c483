import { expect, onTestFinished, test } from 'vitest'
import type { ChatCompletion } from '@copal/shared/wire/chat.ts'
import { call, startTestNode } from '../../../../support/processes/in-process-node.ts'
import { addon, BACKENDS } from '../../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../../support/harness/skip-without-addon.ts'
import { temporaryDir } from '../../../../support/harness/temporary.ts'
import { openTinyModel } from '../../../../support/models/tiny-model.ts'

if (!addon) skipWithoutAddon('the sparse engine')
test.runIf(addon)('a predicted output takes fewer steps, and is the same', async () => {
  // Untied, because a tied random model repeats its last token, which needs no prediction.
  const tiny = await openTinyModel({ contextLength: 512, tied: false })
  onTestFinished(() => tiny.remove())
  const { model } = tiny
  const backend = BACKENDS[1]!.create(temporaryDir())
  const weights = await backend.load({ model, version: 0, maskPath: null, priority: 'serving' })
  let [accepted, nowMs] = [0, 0]
  const node = await startTestNode({
    backend,
    model,
    dense: () => weights,
    named: () => weights,
    engine: {
      // All steps take the same time, so a further token costs nothing.
      nowMs: () => (nowMs += 1),
      observer: {
        step: ({ acceptedDrafts }) => void (accepted += acceptedDrafts),
      },
    },
  })
  onTestFinished(async () => {
    await node.close()
    await backend.release(weights)
  })
  node.engine.setActive(weights)
  const ask = async (prediction?: object) => {
    const before = accepted
    const request = {
      model: 'tiny',
      messages: [{ role: 'user', content: 'What is it?' }],
      max_tokens: 100,
      temperature: 1,
      seed: 4,
      prediction,
    }
    const response = await node.post('/rpc/chat-completions', call(request))
    const { choices, usage } = (await response.json()) as ChatCompletion
    return { text: choices[0]!.message.content ?? '', usage, accepted: accepted - before }
  }
  const plain = await ask()
  expect(plain.text.length).toBeGreaterThan(20)
  const middle = plain.text.length / 2
  const changed = `${plain.text.slice(0, middle)} something else ${plain.text.slice(middle)}`
  const predicted = await ask({ type: 'content', content: [{ type: 'text', text: changed }] })
  expect(predicted.text).toBe(plain.text)
  expect(predicted.usage.completion_tokens).toBe(plain.usage.completion_tokens)
  // The model is random, so much of its text has other tokens when it is encoded again.
  expect(predicted.accepted).toBeGreaterThan(plain.accepted + 10)
  expect((await ask({ type: 'content', content: '' })).text).toBe(plain.text)
  const long = await ask({ type: 'content', content: `${changed} ${'and so on '.repeat(5_000)}` })
  expect(long.text, 'a prediction that is longer than the context').toBe(plain.text)
  expect(long.accepted).toBeGreaterThan(plain.accepted + 10)
})

import { expect, test } from 'vitest'
import type { GenerateEvent } from '../../../../../gpu-node/src/serving/engine/generation-request.ts'
import { startChoices } from '../../../../../gpu-node/src/serving/server/generation/completion-choices.ts'
import { GREEDY } from '../../../../../gpu-node/src/serving/contract/greedy.ts'
import { collectGarbage } from '../../../../support/harness/collect-garbage.ts'

const CHOICES = 32
const RUNNING = 8
const EVENTS = 2_500

/** Bytes that JavaScript uses. */
function usedBytes(): number {
  collectGarbage()
  return process.memoryUsage().heapUsed
}

test('choices that wait take no memory for each event of those that run', async () => {
  const ending = new AbortController()
  const waiting = new Promise<void>((resolve) => ending.signal.addEventListener('abort', () => resolve()))
  let started = 0
  async function* eventsOf(choice: number): AsyncGenerator<GenerateEvent> {
    if (choice >= RUNNING) await waiting
    for (let event = 0; event < EVENTS; event++) {
      await new Promise((resolve) => setImmediate(resolve))
      yield { type: 'text', text: 'a', tokens: [] }
    }
  }
  const { events } = startChoices(
    { generate: () => ({ events: eventsOf(started++), outcome: new Promise(() => {}) }) },
    {
      prompts: [[1]],
      choicesPerPrompt: CHOICES,
      sampling: { ...GREEDY, seed: 1 },
      stops: [],
      maxTokens: null,
    },
    { id: 'request-1', restartable: false, partition: undefined, deadlineMs: undefined, weights: null },
    ending,
  )
  const before = usedBytes()
  for (let read = 0; read < RUNNING * EVENTS; read++) await events.next()
  expect(usedBytes() - before).toBeLessThan(10_000_000)
  void events.return()
  ending.abort()
})

import { env } from 'cloudflare:workers'
import { createExecutionContext, createMessageBatch, getQueueResult } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { consumeSamples } from '../../../../gateway/src/adaptation/intake/sample-consumer.ts'
import { REDACTION_VERSION } from '../../../../gateway/src/adaptation/redaction/redact.ts'
import type { Deps } from '../../../../gateway/src/contracts/bindings.ts'
import { createDeps } from '../../../../gateway/src/deps.ts'
import { storedTexts } from '../../support/state/reservoir-state.ts'

const sample = (domain: string, text: string, redaction?: number) => ({
  requestId: `req_${domain}`,
  keyId: 'key',
  model: 'tiny',
  domain,
  text,
  ...(redaction === undefined ? {} : { redaction }),
})

async function consume(bodies: readonly unknown[], recogniser?: Deps['recogniser']) {
  const messages = bodies.map((body, index) => ({
    id: `m${index}`,
    timestamp: new Date(),
    attempts: 1,
    body,
  }))
  const batch = createMessageBatch('copal-samples', messages)
  await consumeSamples({ ...createDeps(env, createExecutionContext()), recogniser }, batch)
  const { explicitAcks, retryMessages } = await getQueueResult(batch, createExecutionContext())
  return { acked: explicitAcks.toSorted(), retried: retryMessages.map(({ msgId }) => msgId) }
}

test('samples that older rules redacted are redacted again before they are stored', async () => {
  const text = 'write to müller@exämple.de or 06 12 34 56 78'
  await consume([sample('older', text), sample('old', text, REDACTION_VERSION - 1)])
  expect(await storedTexts('older')).toEqual(['write to [email] or [phone]'])
  expect(await storedTexts('old')).toEqual(['write to [email] or [phone]'])
})

test('a recogniser reads redacted text alone, and what it finds is replaced', async () => {
  const seen: string[] = []
  const recogniser = (texts: readonly string[]) => {
    seen.push(...texts)
    return Promise.resolve(
      texts.map((text) => [{ start: 0, end: text.indexOf(' '), label: 'name' as const }]),
    )
  }
  await consume([sample('named', 'Jane is jane@example.org', 1)], recogniser)
  expect(seen).toEqual(['Jane is [email]'])
  expect(await storedTexts('named')).toEqual(['[name] is [email]'])
})

test('no sample is stored, and all are retried, while the recogniser fails', async () => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => error.mockRestore())
  const away = () => Promise.reject(new AppError('service_unavailable', 'The recogniser is away.'))
  const bodies = [sample('unread', 'Jane was here', REDACTION_VERSION)]
  expect(await consume(bodies, away)).toEqual({ acked: [], retried: ['m0'] })
  expect(await storedTexts('unread')).toEqual([])
  expect(JSON.stringify(error.mock.calls)).not.toContain('Jane')
  expect(await consume(bodies, (texts) => Promise.resolve(texts.map(() => [])))).toEqual({
    acked: ['m0'],
    retried: [],
  })
  expect(await storedTexts('unread')).toEqual(['Jane was here'])
})

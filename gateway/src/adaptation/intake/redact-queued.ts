import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { recogniseTexts } from '../redaction/recognise-texts.ts'
import { REDACTION_VERSION } from '../redaction/redact.ts'
import { redactSample, truncateSample } from '../sampling/sample-text.ts'

/**
 * Returns queued samples as they may be stored: those that older rules redacted are redacted again, and the external
 * recogniser, if there is one, reads all of them.
 *
 * @throws AppError `service_unavailable`, if the recogniser fails: the samples must be tried again later
 */
export async function redactQueued<Queued extends { sample: SampleMessage }>(
  { recogniser }: Pick<Deps, 'recogniser'>,
  queued: readonly Queued[],
): Promise<Queued[]> {
  const redacted = queued.map(({ sample }) =>
    sample.redaction === REDACTION_VERSION ? sample.text : redactSample(sample.text),
  )
  const texts = await recogniseTexts(recogniser, redacted)
  return queued.map((one, index) => ({
    ...one,
    sample: { ...one.sample, text: truncateSample(texts[index] ?? '') },
  }))
}

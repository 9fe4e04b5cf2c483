import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { recogniseTexts } from '../redaction/recognise-texts.ts'
import { REDACTION_VERSION } from '../redaction/redact.ts'
import { conversationSide } from '../sampling/conversation.ts'
import { redactSample, truncateSample } from '../sampling/sample-text.ts'
import { textHash } from '../sampling/text-hash.ts'

/** A queued sample as it may be stored. */
export interface StorableSample extends SampleMessage {
  /** The hash of its conversation's first message before the recogniser read it, under which earlier texts may be stored. */
  earlierOpening?: string | undefined
}

/**
 * Returns queued samples as they may be stored: those that older rules redacted are redacted again, and the external
 * recogniser, if there is one, reads all of them. Their side then follows from the first message of their conversation as it is
 * after that, so that first messages which are stored alike are on one side. If the message lacks it, the side stays.
 *
 * @throws AppError `service_unavailable`, if the recogniser fails: the samples must be tried again later
 */
export async function redactQueued<Queued extends { sample: SampleMessage }>(
  { recogniser, keyPepper }: Pick<Deps, 'recogniser' | 'keyPepper'>,
  queued: readonly Queued[],
): Promise<(Queued & { sample: StorableSample })[]> {
  const texts = queued.map(({ sample }) => redactAgain(sample, sample.text))
  const openings = queued.flatMap(({ sample }) =>
    sample.openingText === undefined ? [] : redactAgain(sample, sample.openingText),
  )
  // Texts of one conversation share its first message.
  const distinct = [...new Set([...texts, ...openings])]
  const recognised = await recogniseTexts(recogniser, distinct)
  const storable = new Map(distinct.map((text, index) => [text, truncateSample(recognised[index] ?? '')]))
  return Promise.all(
    queued.map(async (one) => {
      const { openingText, ...sample } = one.sample
      const text = storable.get(redactAgain(sample, sample.text)) ?? ''
      const opening =
        openingText !== undefined
          ? storable.get(redactAgain(sample, openingText))
          : sample.opening === (await textHash(sample.text))
            ? text
            : undefined
      const place =
        recogniser && opening !== undefined ? await placeOf(keyPepper, opening, sample.opening) : {}
      return { ...one, sample: { ...sample, ...place, text } }
    }),
  )
}

function redactAgain({ redaction }: Pick<SampleMessage, 'redaction'>, text: string): string {
  return redaction === REDACTION_VERSION ? text : redactSample(text)
}

async function placeOf(
  secret: string,
  opening: string,
  earlierOpening: string | undefined,
): Promise<Pick<StorableSample, 'side' | 'opening' | 'earlierOpening'>> {
  const [side, hash] = await Promise.all([conversationSide(secret, opening), textHash(opening)])
  return { side, opening: hash, ...(earlierOpening === hash ? {} : { earlierOpening }) }
}

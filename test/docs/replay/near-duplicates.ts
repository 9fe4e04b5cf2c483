import { isNearDuplicate, sketchOf } from '../../../gateway/src/adaptation/sampling/near-duplicate.ts'
import { readText } from '../markdown.ts'

/** Characters of a text, as of a short exchange. */
const TEXT_CHARACTERS = 600
/** Exchanges behind each system prompt. */
const EXCHANGES = 200
/** Characters of a system prompt and of the exchange behind it. */
const CONVERSATIONS = [
  { system: 200, exchange: 600 },
  { system: 600, exchange: 600 },
  { system: 1_200, exchange: 600 },
  { system: 1_200, exchange: 300 },
  { system: 1_200, exchange: 100 },
  { system: 3_000, exchange: 600 },
]

/** Texts of one kind, and those that are dropped because an earlier one is almost the same. */
export interface Dropped {
  texts: number
  dropped: number
}

/** Counts the texts that a reservoir would drop as near-duplicates; equal texts count once. */
export function countDropped(texts: readonly string[]): Dropped {
  const unique = [...new Set(texts)]
  const kept: Uint8Array[] = []
  let dropped = 0
  for (const text of unique) {
    const sketch = sketchOf(text)
    if (!sketch) continue
    if (kept.some((other) => isNearDuplicate(sketch, other))) dropped += 1
    else kept.push(sketch)
  }
  return { texts: unique.length, dropped }
}

/** Cuts documents into texts of the length of a short exchange. */
export function cutTexts(documents: readonly string[], characters = TEXT_CHARACTERS): string[] {
  return documents.flatMap((document) =>
    Array.from({ length: Math.floor(document.length / characters) }, (_, index) =>
      document.slice(index * characters, (index + 1) * characters),
    ),
  )
}

/** Counts what is dropped of the fixtures' prose. */
export function measureFixtures(): Record<string, Dropped> {
  const names = ['novel.calibration', 'novel.evaluation', 'speech.calibration', 'speech.evaluation']
  return Object.fromEntries(
    names.map((name) => [name, countDropped(cutTexts([readText(`test/fixtures/text/${name}.txt`)]))]),
  )
}

/** Counts what is dropped of conversations that have a system prompt in common, each with another exchange. */
export function measureTemplates(): ({ system: number; exchange: number } & Dropped)[] {
  const speech = readText('test/fixtures/text/speech.calibration.txt')
  const novel = readText('test/fixtures/text/novel.calibration.txt')
  return CONVERSATIONS.map(({ system, exchange }) => {
    const exchanges = cutTexts([novel], exchange).slice(0, EXCHANGES)
    return { system, exchange, ...countDropped(exchanges.map((text) => speech.slice(0, system) + text)) }
  })
}

import type { RecognisedSpan, Recogniser } from '../../contracts/recogniser.ts'

/**
 * Replaces what an external recogniser finds by its class in brackets, as `[name]`.
 *
 * @param texts redacted; without a recogniser they are returned as they are
 * @throws AppError `service_unavailable`, if the recogniser fails: the texts must not be stored then
 */
export async function recogniseTexts(
  recogniser: Recogniser | undefined,
  texts: readonly string[],
): Promise<string[]> {
  if (recogniser === undefined || texts.length === 0) return [...texts]
  const spans = await recogniser(texts)
  return texts.map((text, index) => replaceSpans(text, spans[index] ?? []))
}

function replaceSpans(text: string, spans: readonly RecognisedSpan[]): string {
  const parts: string[] = []
  let from = 0
  for (const { start, end, label } of spans) {
    parts.push(text.slice(from, start), `[${label}]`)
    from = end
  }
  return parts.join('') + text.slice(from)
}

import { AppError } from '@copal/shared/errors.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'
import { readDataset } from '../calibration/dataset-text.ts'

/** Text to evaluate on: the texts themselves, or a dataset file. */
export type TextSource = { texts: string[] } | { path: string; sha256: string }

/** The evaluation windows of one source. */
export interface TextWindows {
  /** Token ids of each window, `[tokens]`. */
  windows: Int32Array[]
}

/**
 * Cuts each text of a source into windows of `windowTokens` tokens that do not overlap. The rest of a text is dropped,
 * but a text shorter than a window is one window. A text begins with the BOS token if the model's tokenizer adds one. A
 * window has at least two tokens, because the first is only context.
 *
 * @throws AppError `insufficient_samples` when there is no window; as `readDataset` does
 */
export async function cutWindows(
  source: TextSource,
  codec: TextCodec,
  windowTokens: number,
  maxWindows: number,
): Promise<TextWindows> {
  const texts = 'texts' in source ? source.texts : await readDataset(source.path, source.sha256)
  const windows: Int32Array[] = []
  for (const text of texts) {
    if (windows.length >= maxWindows) break
    const tokens = Int32Array.from(codec.encodeDocument(text))
    if (tokens.length < windowTokens) {
      if (tokens.length >= 2) windows.push(tokens)
      continue
    }
    for (let at = 0; at + windowTokens <= tokens.length && windows.length < maxWindows; at += windowTokens) {
      windows.push(tokens.slice(at, at + windowTokens))
    }
  }
  if (windows.length === 0) {
    throw new AppError('insufficient_samples', 'There is no text of at least two tokens to evaluate on.')
  }
  return { windows }
}

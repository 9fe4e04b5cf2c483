import { readFileSync } from 'node:fs'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'

/** Returns `count` pieces of a novel, `length` tokens each, from different places. */
export function novelPrompts({ codec }: DenseModel, count: number, length: number): Int32Array[] {
  const text = readFileSync(new URL('../../fixtures/text/novel.evaluation.txt', import.meta.url), 'utf8')
  const ids = codec.encode(text)
  return Array.from({ length: count }, (_, i) =>
    Int32Array.from(ids.slice(i * 10 * length, i * 10 * length + length)),
  )
}

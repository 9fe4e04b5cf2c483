import { AppError } from '@copal/shared/errors.ts'
import type { MaskChurn } from '@copal/shared/wire/admin-mask-linears.ts'
import type { MaskHeader } from '@copal/shared/mask/mask-header.ts'
import { linearChurn, requireDense } from '@copal/shared/mask/mask-codec.ts'
import { openMaskBits, type MaskBits } from '../../storage/artifacts/mask-bits.ts'
import { byPlace, parseLinearName } from './linear-name.ts'

/** Maximum bytes of the bits of both masks: comparing them takes some seconds of a processor. */
const MAX_BYTES = 2 * 1024 * 1024 * 1024
/** Maximum reads of R2 for one comparison: a request may make 1,000 calls. */
const MAX_READS = 900

/** A mask to compare, without its bits; null is the dense model. */
export type ComparedMask = { sha256: string; header: MaskHeader } | null

/**
 * Compares the bits of two masks of a model, linear by linear, so that few of them are in memory at once. Values are not compared.
 *
 * @throws AppError `conflict` if they are too large to compare in a request, `mask_invalid`
 */
export async function compareMasks(
  artifacts: R2Bucket,
  first: ComparedMask,
  second: ComparedMask,
): Promise<Pick<MaskChurn, 'churn' | 'linears'>> {
  const [a, b] = [open(artifacts, first), open(artifacts, second)]
  if (bitsOf(first) + bitsOf(second) > MAX_BYTES || (a?.reads ?? 0) + (b?.reads ?? 0) > MAX_READS) {
    throw new AppError(
      'conflict',
      'These masks are too large to be compared by a request. Export both with `npx copal masks export` and compare the files.',
    )
  }
  const names = new Set([...inFileOrder(first), ...inFileOrder(second)])
  const linears: (MaskChurn['linears'][number] & { differing: number; all: number })[] = []
  for (const name of names) {
    const { differing, all } = linearChurn(name, await read(first, a, name), await read(second, b, name))
    linears.push({ ...parseLinearName(name), churn: all === 0 ? 0 : differing / all, differing, all })
  }
  const total = linears.reduce((sum, { all }) => sum + all, 0)
  const differing = linears.reduce((sum, linear) => sum + linear.differing, 0)
  return {
    churn: total === 0 ? 0 : differing / total,
    linears: linears.toSorted(byPlace).map(({ layer, kind, churn }) => ({ layer, kind, churn })),
  }
}

function open(artifacts: R2Bucket, mask: ComparedMask): MaskBits | null {
  return mask && openMaskBits(artifacts, mask.sha256, mask.header)
}

/** Returns a linear of a mask; null where it is left dense. */
async function read(mask: ComparedMask, bits: MaskBits | null, name: string) {
  if (!mask || !bits) return null
  const linear = mask.header.linears.get(name)
  if (linear) return { rows: linear.rows, cols: linear.cols, bits: await bits.bitsOf(name) }
  requireDense(mask.header.meta, name)
  return null
}

function inFileOrder(mask: ComparedMask): string[] {
  return [...(mask?.header.linears ?? [])]
    .toSorted(([, a], [, b]) => a.bits.begin - b.bits.begin)
    .map(([name]) => name)
}

function bitsOf(mask: ComparedMask): number {
  let bytes = 0
  for (const { bits } of mask?.header.linears.values() ?? []) bytes += bits.end - bits.begin
  return bytes
}

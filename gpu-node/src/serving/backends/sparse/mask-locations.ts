import { AppError } from '@copal/shared/errors.ts'
import { expectedKeptCounts } from '@copal/shared/mask/check-linear.ts'
import { checkMaskHeader } from '@copal/shared/mask/mask-codec.ts'
import type { MaskEntry, MaskHeader } from '@copal/shared/mask/mask-header.ts'
import { linearPattern } from '@copal/shared/mask/mask-metadata.ts'
import type { MaskedPlace } from '../../../../native/addon.d.ts'
import { readMaskFileHeader } from '../../../model/mask-file/mask-file-reader.ts'
import { maskTarget } from '../../../model/mask-file/verify-mask.ts'
import type { LlamaConfig } from '../../../model/config/llama-config.ts'
import type { DenseMaster } from '../../../model/master/dense-model.ts'

/** Where a mask file holds each linear, and what its mask must keep, by tensor name. Dense linears have no entry. */
export type MaskPlaces = ReadonlyMap<string, MaskedPlace>

/**
 * Checks the header of a mask file against a model, and returns where its linears lie and what they must keep. The addon
 * checks the kept counts, and that values are finite, when it packs the linears.
 *
 * @throws AppError `mask_invalid`, `mask_base_mismatch`, or `node_failed` when the file cannot be read
 */
export async function placesInMask(
  maskPath: string,
  config: LlamaConfig,
  master: DenseMaster,
): Promise<MaskPlaces> {
  const header = await readHeader(maskPath)
  checkMaskHeader(header, maskTarget(config, master))
  return new Map([...header.linears].map(([name, linear]) => [name, placeOf(header, name, linear)]))
}

function placeOf({ meta }: MaskHeader, name: string, { rows, cols, bits, values }: MaskEntry): MaskedPlace {
  const { pattern, size, kept } = expectedKeptCounts(name, linearPattern(meta, name), meta.scope, rows, cols)
  const isGrouped = pattern.kind === 'n:m'
  return {
    bits: bits.begin,
    rule: isGrouped
      ? { per: 'group', columns: size, kept }
      : { per: meta.scope === 'row' ? 'row' : 'matrix', kept },
    values: values ? { begin: values.begin, count: (values.end - values.begin) / 2 } : null,
  }
}

async function readHeader(maskPath: string): Promise<MaskHeader> {
  try {
    return await readMaskFileHeader(maskPath)
  } catch (cause) {
    if (cause instanceof AppError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AppError('node_failed', `The mask cannot be checked: ${reason}.`, { cause })
  }
}

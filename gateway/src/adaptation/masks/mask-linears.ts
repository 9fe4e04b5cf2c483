import type { MaskLinears } from '@copal/shared/wire/admin-mask-linears.ts'
import { asMaskInvalid } from '@copal/shared/mask/mask-error.ts'
import type { MaskHeader } from '@copal/shared/mask/mask-header.ts'
import { DENSE, linearPattern } from '@copal/shared/mask/mask-metadata.ts'
import { keptCounts, parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { byPlace, parseLinearName } from './linear-name.ts'

/**
 * Lists the linears of a mask with their sparsity. The header of the file suffices: nodes refuse a mask that does not keep exactly
 * what its patterns say. A linear that stays dense has no tensor, and so the shape of its kind in another layer.
 *
 * @throws AppError `mask_invalid`
 */
export function listMaskLinears({ meta, linears }: MaskHeader): MaskLinears['linears'] {
  const masked = [...linears].map(([name, { rows, cols }]) => {
    const pattern = parsePattern(linearPattern(meta, name))
    const { groups, kept } = asMaskInvalid(() => keptCounts(pattern, meta.scope, rows, cols), name)
    return { ...parseLinearName(name), rows, columns: cols, sparsity: 1 - (groups * kept) / (rows * cols) }
  })
  const dense = Object.keys(meta.patterns)
    .filter((name) => linearPattern(meta, name) === DENSE)
    .flatMap((name) => {
      const place = parseLinearName(name)
      const like = masked.find(({ kind }) => kind === place.kind)
      return like ? [{ ...place, rows: like.rows, columns: like.columns, sparsity: 0 }] : []
    })
  return [...masked, ...dense].toSorted(byPlace)
}

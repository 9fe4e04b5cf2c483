import { AppError } from '@copal/shared/errors.ts'
import type { MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { parseMethod } from './method-registry.ts'
import type { CountedDatasets } from './prune-rule.ts'

/** A pruning method together with its scope. */
export interface MethodVariant {
  method: string
  /** The weights that are compared with each other: of a row or of the matrix. n:m patterns ignore it. */
  scope: MaskScope
  /** The statistics that the method reads: none, those of the newest domain, or those of all domains so far. */
  datasets: CountedDatasets
}

/**
 * Parses `copal`, or `copal@matrix` for a method that compares weights of the whole matrix instead of each row.
 *
 * @throws AppError `invalid_request`
 */
export function parseMethodVariant(text: string): MethodVariant {
  const at = text.indexOf('@')
  const scope = at < 0 ? 'row' : text.slice(at + 1)
  if (!isScope(scope)) {
    throw new AppError('invalid_request', `'${text}': after '@' comes 'row' or 'matrix'.`, {
      param: 'methods',
    })
  }
  const { name, datasets, rows } = parseMethod(at < 0 ? text : text.slice(0, at))
  // Where rows share a ratio the scope has no effect, so both scopes are one variant.
  return { method: name, scope: rows ? 'row' : scope, datasets }
}

function isScope(text: string): text is MaskScope {
  return text === 'row' || text === 'matrix'
}

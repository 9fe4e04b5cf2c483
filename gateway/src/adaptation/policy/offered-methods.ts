import { AppError } from '@copal/shared/errors.ts'
import { suggestName } from '@copal/shared/suggest-name.ts'

/**
 * Checks that a node offers a pruning method. While no node of the model is alive, any method is accepted, and the node that gets
 * the job decides.
 *
 * @param offered the methods that the live nodes of the model offer; null: none is alive
 * @throws AppError `invalid_request` for a method that no node offers
 */
export function requireOffered(model: string, method: string, offered: readonly string[] | null): void {
  if (!offered || offered.includes(method)) return
  const nearest = suggestName(method, offered)
  throw new AppError(
    'invalid_request',
    `No node of '${model}' offers the pruning method '${method}'.` +
      `${nearest === undefined ? '' : ` Did you mean '${nearest}'?`} ` +
      (offered.length > 0 ? describeMethods(offered) : 'They offer no methods: upgrade the nodes.'),
    { param: 'selection.method' },
  )
}

/** Describes methods by their rules and refinements, since their combinations are a hundred names. */
function describeMethods(offered: readonly string[]): string {
  const parts = offered.map((name) => name.split('+'))
  const rules = new Set(parts.map(([rule]) => rule))
  const refinements = new Set(parts.flatMap(([, ...rest]) => rest).sort())
  const suffixes = refinements.size > 0 ? `; they can be followed by +${[...refinements].join(', +')}` : ''
  return (
    `The rules are ${[...rules].join(', ')}${suffixes}. 'npx copal methods' lists the valid combinations ` +
    `('+allocated' and '+rows' need a model that was measured: npx copal lab --help).`
  )
}

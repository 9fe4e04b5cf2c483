/** The effects of making an earlier mask active, told to the operator before. */
import { listNames } from '@copal/shared/phrases.ts'
import type { MaskEntry, NodeEntry } from '@copal/shared/wire/admin.ts'
import { maskName, maskNameFirst, maskVerb } from '../../format/mask-names.ts'
import { plural } from '../../format/numbers.ts'

/** A change of the active mask. */
export interface Activation {
  model: string
  /** The version that is active now. */
  from: number
  /** The version that becomes active; 0 is dense. */
  to: number
  masks: readonly MaskEntry[]
  nodes: readonly NodeEntry[]
  /** The mask that becomes active was rolled back before. */
  wasRolledBack?: boolean
}

/** The effects of making an earlier mask active, and the way back. */
export function activationConsequences(activation: Activation): string[] {
  const { model, from, to, masks, nodes, wasRolledBack = false } = activation
  const alive = nodes.filter((node) => node.alive && !node.draining && node.model === model)
  const holding = alive.filter((node) =>
    node.weight_sets.some((set) => set.version === to && set.state === 'ready'),
  )
  const running = alive.reduce((sum, node) => sum + node.running, 0)
  const undone = undoneMasks(masks, from, to)
  const domains = listNames([...new Set(undone.flatMap((mask) => mask.domains))])
  const speed =
    alive.length === 0
      ? 'No live node can serve it now.'
      : holding.length === alive.length
        ? `${alive.length === 1 ? 'The live node holds it and serves it' : `All ${alive.length} live nodes hold it and serve it`} within some 2 seconds.`
        : holding.length > 0
          ? `${holding.length} of ${alive.length} live nodes hold it and serve it within some 2 seconds; the others load it first.`
          : `${alive.length === 1 ? 'The live node loads' : 'The live nodes load'} it first, and ${maskName(from)} ${maskVerb(from, 'serves', 'serve')} until then.`
  return [
    `${maskNameFirst(to)} ${maskVerb(to, 'serves', 'serve')} all conversations of ${model} instead of ${maskName(from)}. ${speed}`,
    ...(wasRolledBack
      ? [`${maskNameFirst(to)} was rolled back before, and may do harm: see its update for the reason.`]
      : []),
    ...(running > 0
      ? [
          `${plural(running, 'request')} that ${running === 1 ? 'runs' : 'run'} now ${running === 1 ? 'ends' : 'end'} on ${maskName(from)}.`,
        ]
      : []),
    ...(undone.length > 0
      ? [
          `${listNames(undone.map(({ version }) => maskNameFirst(version)))} ${undone.length === 1 ? 'counts' : 'count'} as rolled back${domains === '' ? '' : `, and the texts of ${domains} that ${undone.length === 1 ? 'it' : 'they'} learned do not count any more`}.`,
        ]
      : []),
    from === 0
      ? 'To return, roll back to the dense weights on the page of masks.'
      : `To return, open ${maskName(from)} and make it active again${undone.length > 0 ? '; its texts then count again' : ''}.`,
  ]
}

/** The promoted masks that are not in the line of the mask that becomes active. */
function undoneMasks(masks: readonly MaskEntry[], from: number, to: number): MaskEntry[] {
  const byVersion = new Map(masks.map((mask) => [mask.version, mask]))
  const line = (version: number) => {
    const versions = new Set<number>()
    for (
      let each = version;
      each !== 0 && !versions.has(each);
      each = byVersion.get(each)?.parent_version ?? 0
    )
      versions.add(each)
    return versions
  }
  const kept = line(to)
  return [...line(from)].flatMap((version) => {
    const mask = byVersion.get(version)
    return mask && !kept.has(version) ? [mask] : []
  })
}

import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'

/** Domains of a model that metrics name, the oldest. */
export const MAX_DOMAINS = 100
/** Masks of a model that metrics name besides those in force, the newest with traffic. */
const NEWEST_MASKS = 10

/** The values that labels may have, so that series do not grow with what clients name, or with time. */
export interface LabelBounds {
  /** Returns the value of the label `domain`. */
  domain(model: string, name: string): string
  /** Returns whether a mask has series. Those of older masks end: they answer nothing any more. */
  showsMask(model: string, version: number): boolean
}

/**
 * Creates the bounds of labels.
 *
 * @param named the domains that metrics name
 * @param seen the masks that have traffic
 */
export function createLabelBounds(
  models: readonly ModelRow[],
  named: readonly { model: string; domain: string }[],
  seen: readonly { model: string; maskVersion: number }[],
): LabelBounds {
  const domains = new Set(named.map(({ model, domain }) => keyOf(model, domain)))
  const masks = new Set<string>()
  for (const [model, rows] of Map.groupBy(seen, (row) => row.model)) {
    const versions = [...new Set(rows.map(({ maskVersion }) => maskVersion))].sort((a, b) => b - a)
    for (const version of versions.slice(0, NEWEST_MASKS)) masks.add(keyOf(model, version))
  }
  for (const model of models)
    for (const version of versionsInForce(model)) masks.add(keyOf(model.id, version))
  return {
    domain: (model, name) => (domains.has(keyOf(model, name)) ? name : OTHER_DOMAINS),
    showsMask: (model, version) => version === 0 || masks.has(keyOf(model, version)),
  }
}

/** Returns the masks that a model may be served with now, without dense. */
export function versionsInForce(model: ModelRow): number[] {
  const { canary, shadow } = trialsInForce(model)
  const { activeVersion, previousVersion, watch, domainVersions } = model
  const versions = [activeVersion, previousVersion, canary?.version, shadow?.version, watch?.version]
  const all = [...versions, ...domainVersions.values()]
  return [...new Set(all.flatMap((version) => (version ? [version] : [])))]
}

function keyOf(model: string, value: string | number): string {
  return `${model}\0${value}`
}

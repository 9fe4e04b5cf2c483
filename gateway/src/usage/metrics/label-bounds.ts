import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import type { ModelMask } from '../../storage/db/queries/metric-total-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'

/** Domains of a model that metrics name, the oldest. */
export const MAX_DOMAINS = 100

/** The values that labels may have, so that series do not grow with what clients name. */
export interface LabelBounds {
  /** Returns the value of the label `domain`. */
  domain(model: string, name: string): string
}

/**
 * Creates the bounds of labels.
 *
 * @param named the domains that metrics name
 */
export function createLabelBounds(named: readonly { model: string; domain: string }[]): LabelBounds {
  const domains = new Set(named.map(({ model, domain }) => keyOf(model, domain)))
  return { domain: (model, name) => (domains.has(keyOf(model, name)) ? name : OTHER_DOMAINS) }
}

/** Returns the masks that a model may be served with now, without dense. */
function versionsInForce(model: ModelRow): number[] {
  const { canary, shadow } = trialsInForce(model)
  const { activeVersion, previousVersion, watch, domainVersions } = model
  const versions = [activeVersion, previousVersion, canary?.version, shadow?.version, watch?.version]
  const all = [...versions, ...domainVersions.values()]
  return [...new Set(all.flatMap((version) => (version ? [version] : [])))]
}

/** Returns the masks that models may be served with now, and dense. */
export function masksInForce(models: readonly ModelRow[]): ModelMask[] {
  return models.flatMap((model) =>
    [0, ...versionsInForce(model)].map((version) => ({ model: model.id, version })),
  )
}

function keyOf(model: string, value: string): string {
  return `${model}\0${value}`
}

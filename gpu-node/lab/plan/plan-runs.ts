import type { MethodVariant } from '@copal/gpu-node/pruning/methods/method-variant.ts'
import type { MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { parseMethod } from '@copal/gpu-node/pruning/methods/method-registry.ts'
import type { Propagation } from '@copal/gpu-node/pruning/calibration/pruned-propagation.ts'

/** A planned mask: everything that determines it, by name. */
export interface MaskPlan {
  method: string
  pattern: string
  scope: MaskScope
  /** Calibration sequences per domain. */
  samples: number
  propagation: Propagation
  /** Domains whose statistics are used: sorted, or in order of arrival with pruned propagation. */
  domains: string[]
}

/** One distinct mask of a run, and the domains to evaluate it on. */
export interface StagePlan {
  mask: MaskPlan
  evaluateOn: string[]
  /** Whether the mask ends an order, with everything accumulated. */
  isFinal: boolean
}

/** One row of the results: a method variant at one pattern and number of samples. */
export interface RunPlan {
  purpose: 'main' | 'sparsity-sweep' | 'sample-sweep'
  variant: MethodVariant
  pattern: string
  samples: number
  propagation: Propagation
  /** Orders of the calibrated domains, one for each R matrix; none for a sweep. */
  orders: string[][]
  stages: StagePlan[]
}

/** Options of {@link planRuns}. */
export interface PlanOptions {
  /** Domains with calibration text, in the given order. */
  calibrated: readonly string[]
  /** Domains that are only evaluated. */
  heldOut: readonly string[]
  orders: readonly string[][]
  variants: readonly MethodVariant[]
  patterns: readonly string[]
  samples: number
  propagation: Propagation
  /** Variants to sweep, a subset of `variants`. */
  sweepVariants: readonly MethodVariant[]
  sweepSparsity: readonly string[]
  sweepSamples: readonly number[]
}

/**
 * Plans the runs of a laboratory, most valuable first: every variant at the first pattern, then the other patterns,
 * then the sweeps at the first pattern, which hold only the stages with everything accumulated.
 *
 * Statistics of the dense model add up in any order. An accumulating method's mask therefore depends on the *set* of
 * domains so far, and a restarted method's on the newest domain: three domains have six orders and eighteen stages, but
 * seven masks, or three. With pruned propagation an accumulating method's mask depends on the order too: fifteen masks.
 */
export function planRuns(options: PlanOptions): RunPlan[] {
  const { variants, sweepVariants, patterns, samples, orders, calibrated, heldOut, propagation } = options
  const [firstPattern] = patterns
  // Without calibrated domains, methods that read no text still run.
  const usedOrders = calibrated.length === 0 ? [calibrated] : orders
  // One order per last domain, for restarted methods.
  const ends = calibrated.map((last) => [...calibrated.filter((name) => name !== last), last])
  const main = patterns.flatMap((pattern) =>
    variantsAt(variants, pattern).map((variant) => ({
      purpose: 'main' as const,
      variant,
      pattern,
      samples,
      propagation,
      orders: orders.map((order) => [...order]),
      stages: planStages({ variant, pattern, samples, orders: usedOrders, heldOut, propagation }),
    })),
  )
  const sweep = (
    purpose: RunPlan['purpose'],
    variant: MethodVariant,
    pattern: string,
    count: number,
  ): RunPlan => ({
    purpose,
    variant,
    pattern,
    samples: count,
    propagation,
    orders: [],
    stages: planStages({
      variant,
      pattern,
      samples: count,
      orders: variant.datasets === 'newest' ? ends : [calibrated],
      heldOut,
      propagation,
    })
      .filter(({ isFinal }) => isFinal)
      .map((stage) => ({
        ...stage,
        evaluateOn: [...calibrated, ...heldOut],
      })),
  })
  const sparsity = options.sweepSparsity.flatMap((pattern) =>
    variantsAt(sweepVariants, pattern).map((variant) => sweep('sparsity-sweep', variant, pattern, samples)),
  )
  const sampling =
    firstPattern === undefined
      ? []
      : options.sweepSamples.flatMap((count) =>
          variantsAt(sweepVariants, firstPattern)
            .filter(({ datasets }) => datasets !== 'none')
            .map((variant) => sweep('sample-sweep', variant, firstPattern, count)),
        )
  return [...main, ...sparsity, ...sampling]
}

/**
 * Returns the stages of all runs in the order of work. Among runs of one purpose and pattern, the fully accumulated
 * masks come first, so that a run that is stopped early has compared every method.
 */
export function scheduleStages(runs: readonly RunPlan[]): { run: RunPlan; stage: StagePlan }[] {
  const phases = Map.groupBy(
    runs,
    ({ purpose, pattern }) => `${purpose} ${purpose === 'main' ? pattern : ''}`,
  )
  return [...phases.values()].flatMap((phase) => {
    const all = phase.flatMap((run) => run.stages.map((stage) => ({ run, stage })))
    return [...all.filter(({ stage }) => stage.isFinal), ...all.filter(({ stage }) => !stage.isFinal)]
  })
}

/**
 * Returns the domains whose statistics a method uses after `soFar` (newest last); sorted if their order does not count.
 */
export function statisticsDomains(
  { datasets }: MethodVariant,
  soFar: readonly string[],
  propagation: Propagation | 'compensated',
): string[] {
  switch (datasets) {
    case 'none':
      return []
    case 'newest':
      return soFar.slice(-1)
    case 'accumulated':
      return propagation === 'dense' ? soFar.toSorted() : [...soFar]
  }
}

/**
 * Returns the calibrations that a mask needs, with a key that equal calibrations share. With pruned propagation a
 * calibration depends on the domains before it.
 */
export function requiredCalibrations(mask: MaskPlan): { name: string; key: string }[] {
  const { domains, samples, propagation } = mask
  if (propagation === 'dense') return domains.map((name) => ({ name, key: JSON.stringify([name, samples]) }))
  return domains.map((name, index) => ({
    name,
    key: JSON.stringify([prunedStatisticsKey(mask), domains.slice(0, index + 1)]),
  }))
}

/** Returns a key of the masks that share statistics of pruned propagation. */
export function prunedStatisticsKey({ method, pattern, scope, samples }: MaskPlan): string {
  return JSON.stringify([method, pattern, scope, samples])
}

/**
 * Returns the variants to compare at a pattern. At n:m both scopes give the same mask, so only the first variant of a
 * method is kept, and methods that distribute ratios are left out because they have no effect.
 */
export function variantsAt(variants: readonly MethodVariant[], pattern: string): MethodVariant[] {
  if (!pattern.includes(':')) return [...variants]
  const methods = new Set<string>()
  return variants
    .filter(({ method }) => !methods.has(method) && methods.add(method))
    .filter(({ method }) => {
      const { allocated, rows } = parseMethod(method)
      return !allocated && !rows
    })
    .map((variant) => ({ ...variant, scope: 'row' }))
}

/**
 * Returns the distinct masks of all stages of all orders, each with all domains that the R matrices need. `variant`
 * comes from {@link variantsAt} for the pattern.
 */
function planStages(run: {
  variant: MethodVariant
  pattern: string
  samples: number
  orders: readonly (readonly string[])[]
  heldOut: readonly string[]
  propagation: Propagation
}): StagePlan[] {
  const { variant, pattern, samples, orders, heldOut, propagation } = run
  const { method, scope } = variant
  const stages = new Map<string, { domains: string[]; evaluateOn: Set<string>; isFinal: boolean }>()
  for (const order of orders) {
    const prefixes = order.length === 0 ? [order] : order.map((_, stage) => order.slice(0, stage + 1))
    for (const soFar of prefixes) {
      const domains = statisticsDomains(variant, soFar, propagation)
      const key = domains.join()
      const found = stages.get(key) ?? { domains, evaluateOn: new Set<string>(), isFinal: false }
      stages.set(key, found)
      for (const domain of soFar) found.evaluateOn.add(domain)
      if (soFar.length < order.length) continue
      found.isFinal = true
      for (const domain of heldOut) found.evaluateOn.add(domain)
    }
  }
  return [...stages.values()].map(({ domains, evaluateOn, isFinal }) => ({
    // A method that reads no statistics does not depend on the number of samples.
    mask:
      variant.datasets === 'none'
        ? { method, pattern, scope, samples: 0, propagation: 'dense', domains }
        : { method, pattern, scope, samples, propagation, domains },
    evaluateOn: [...evaluateOn].sort(),
    isFinal,
  }))
}

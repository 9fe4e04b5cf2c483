/** The names and units of the settings of a policy. Their descriptions are in the API. */
import { capitalize } from '@copal/shared/phrases.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'

type Part = Exclude<keyof AdaptationPolicy, 'preset' | 'confirm'>
type SettingName = 'preset' | 'confirm' | { [P in Part]: `${P}.${keyof AdaptationPolicy[P] & string}` }[Part]

/** The unit of a number. A `share` is 0 to 1; `above` is a ratio, which is shown as per cent above 1. */
export type Unit = 'share' | 'above' | 'minutes' | 'days' | 'nats' | 'plain'

/** A setting in words. */
export interface SettingWords {
  label: string
  unit: Unit
  /** What no value means, if that is more than `none`. */
  none?: string
}

const WORDS: Readonly<Record<SettingName, string | readonly [label: string, unit: Unit, none?: string]>> = {
  preset: 'Preset',
  confirm: 'Nodes that must select a mask',
  'gate.confidence': ['Confidence of the bounds', 'share'],
  'gate.max_regression': ['Maximum perplexity above the active mask', 'above'],
  'gate.max_regression_from_best': ['Maximum perplexity above the best mask', 'above'],
  'gate.max_refresh_regression': ['Maximum perplexity above the active mask over all domains', 'above'],
  'gate.max_dense_ratio': ['Maximum perplexity above the dense model', 'above'],
  'gate.max_candidates': 'Masks that an update may try',
  'canary.enabled': 'Canary before promotion',
  'canary.share': ['Share of the conversations', 'share'],
  'canary.shadow_share': ['Share of sampled requests that is scored under both', 'share'],
  'canary.min_minutes': ['Shortest canary', 'minutes'],
  'canary.max_minutes': ['Longest canary', 'minutes'],
  'canary.min_scored_tokens': 'Scored tokens before promotion',
  'canary.false_alarm': ['Probability of a false alarm', 'share'],
  'watch.soak_minutes': ['Watch after promotion', 'minutes'],
  'statistics.half_life_days': ['Half-life of batches', 'days'],
  'statistics.weights': 'Weights of domains',
  'triggers.enabled': 'Updates that start by themselves',
  'triggers.dry_run': 'Dry run',
  'triggers.schedule': 'Schedule',
  'triggers.new_segments': 'New segments that make a domain due',
  'triggers.max_gap': ['Gap that makes a domain due', 'nats'],
  'triggers.drift': 'Drift that makes a domain due',
  'triggers.cooldown_minutes': ['Pause between updates', 'minutes'],
  'triggers.max_per_day': 'Maximum updates in 24 hours',
  'triggers.quiet_hours': 'Quiet hours',
  'triggers.max_domains': 'Maximum domains of an update',
  'selection.method': ['Pruning method', 'plain', 'the best one offered'],
  'selection.pattern': ['Sparsity pattern', 'plain', 'that of the active mask'],
  'calibration.samples': 'Calibration sequences',
  'calibration.length': 'Tokens of a sequence',
  'effort.node_share': ["Share of a node's time", 'share'],
  'effort.max_holdouts': 'Maximum holdouts of an update',
  'influence.max_key_share': ['Maximum share of one key', 'share'],
  'influence.outlier_deviations': 'Deviations that set a text aside',
  'probes.on_mismatch': 'Reaction to a mismatch',
  'discovery.enabled': 'Discovery of domains',
  'discovery.accept_texts': 'Texts that accept a proposal',
  'discovery.own_masks': 'Own masks of domains',
  'discovery.own_mask_gain': ['Minimum gain of an own mask', 'above'],
}

const BY_NAME: ReadonlyMap<string, (typeof WORDS)[SettingName]> = new Map(Object.entries(WORDS))

/** The name and the unit of a setting. One that this page does not know has the name of the API. */
export function wordsOf(name: string): SettingWords {
  const words = BY_NAME.get(name) ?? asWords(name)
  if (typeof words === 'string') return { label: words, unit: 'plain' }
  const [label, unit, none] = words
  return none === undefined ? { label, unit } : { label, unit, none }
}

/** The heading of a part of a policy. */
export const partTitle = asWords

function asWords(name: string): string {
  return capitalize(name.replace(/^.*\./, '').replaceAll('_', ' '))
}

import type { DetectorState, DriftSignalName } from '../../../contracts/detector-state.ts'
import { Adwin, startAdwin } from './adwin.ts'
import { PageHinkley, startPageHinkley, type Change } from './page-hinkley.ts'
import { SIGNALS } from './signals.ts'

/** A detector. */
export type DetectorName = 'page_hinkley' | 'adwin'

/** An alarm: a change of the mean that is certain, and large enough to matter. */
export interface Alarm extends Change {
  detector: DetectorName
}

/** Weight of an observation in the recent mean: about the last 50 count. */
const RECENT_WEIGHT = 0.02

/** Creates the state of detectors that have read nothing. */
export function startDetectors(): DetectorState {
  return {
    pageHinkley: startPageHinkley(),
    adwin: startAdwin(),
    recent: null,
    beforeSmall: null,
    alarms: { pageHinkleyMs: null, adwinMs: null },
  }
}

/**
 * Both detectors of one signal of one domain. Page-Hinkley compares with all that it has read since it was started, so that a
 * slow decline adds up; ADWIN finds when a change began, and its window has the present mean. Where an observation is the mean
 * of many requests, both are certain of changes that are too small to alarm. Page-Hinkley then starts anew and ADWIN drops the
 * older part of its window; the mean before the first of these changes is kept, so that small changes add up too.
 *
 * The state is changed in place.
 */
export class DetectorPair {
  readonly #state: DetectorState
  readonly #pageHinkley: PageHinkley
  readonly #adwin: Adwin
  readonly #signal: DriftSignalName

  constructor(signal: DriftSignalName, state: DetectorState) {
    this.#state = state
    this.#signal = signal
    this.#pageHinkley = new PageHinkley(state.pageHinkley, SIGNALS[signal])
    this.#adwin = new Adwin(state.adwin, SIGNALS[signal])
  }

  /**
   * Reads an observation, nats a token within the bounds of the signal.
   *
   * @returns the alarm, if one of the detectors gives one. What comes after it is the new normal.
   */
  add(value: number, atMs: number): Alarm | undefined {
    const state = this.#state
    state.recent = state.recent === null ? value : state.recent + RECENT_WEIGHT * (value - state.recent)
    const jump = this.#pageHinkley.add(value)
    const cut = this.#adwin.add(value)
    const alarm = this.#alarmOf('page_hinkley', jump) ?? this.#alarmOf('adwin', cut)
    if (!alarm) {
      const small = jump ?? cut
      if (small) state.beforeSmall = this.#beforeSmall(small)
      if (jump) this.#pageHinkley.restart()
      return undefined
    }
    state.alarms[alarm.detector === 'adwin' ? 'adwinMs' : 'pageHinkleyMs'] = atMs
    state.recent = alarm.after
    this.restart()
    return alarm
  }

  /** Makes what comes next the normal that later changes are compared with. */
  restart(): void {
    this.#pageHinkley.restart()
    this.#state.beforeSmall = null
  }

  /** Returns what later changes are compared with after a small one. A fall of a signal that alarms by rises lowers it. */
  #beforeSmall({ before, after }: Change): number {
    const first = this.#state.beforeSmall ?? before
    return SIGNALS[this.#signal].twoSided ? first : Math.min(first, before, after)
  }

  /** Returns a change as an alarm if it is large enough, by itself or with the small ones before it. */
  #alarmOf(detector: DetectorName, change: Change | undefined): Alarm | undefined {
    if (!change) return undefined
    const { minChange, twoSided } = SIGNALS[this.#signal]
    const sizeFrom = (before: number) => (twoSided ? Math.abs(change.after - before) : change.after - before)
    const first = this.#state.beforeSmall ?? change.before
    const before = sizeFrom(first) > sizeFrom(change.before) ? first : change.before
    return sizeFrom(before) >= minChange ? { detector, before, after: change.after } : undefined
  }
}

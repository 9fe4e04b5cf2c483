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
    alarms: { pageHinkleyMs: null, adwinMs: null },
  }
}

/**
 * Both detectors of one signal of one domain. Page-Hinkley compares with all that it has read since the last alarm, so that a
 * slow decline adds up; ADWIN finds when a change began, and its window has the present mean.
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
      if (jump) this.#pageHinkley.restart()
      return undefined
    }
    state.alarms[alarm.detector === 'adwin' ? 'adwinMs' : 'pageHinkleyMs'] = atMs
    state.recent = alarm.after
    this.#pageHinkley.restart()
    return alarm
  }

  /** Makes what comes next the normal that Page-Hinkley compares with. */
  restart(): void {
    this.#pageHinkley.restart()
  }

  #alarmOf(detector: DetectorName, change: Change | undefined): Alarm | undefined {
    if (!change) return undefined
    const { minChange, twoSided } = SIGNALS[this.#signal]
    const difference = change.after - change.before
    const isLarge = (twoSided ? Math.abs(difference) : difference) >= minChange
    return isLarge ? { detector, ...change } : undefined
  }
}

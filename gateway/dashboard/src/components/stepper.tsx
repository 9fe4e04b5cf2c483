import { formatProgress, formatShare } from '../format/numbers.ts'
import { Time } from './time.tsx'
import type { ComponentChildren } from 'preact'

/** One step of something that runs. */
export interface Step {
  label: string
  state: 'done' | 'running' | 'ahead' | 'failed' | 'cancelled' | 'skipped' | 'unreached' | 'ended'
  /** When it ended, or began if it runs. */
  at?: string | null
  note?: ComponentChildren
  /** 0 to 1, of a step that runs. */
  progress?: number | undefined
}

/** Those of the other states are dashes. */
const SHAPES: Partial<Record<Step['state'], string>> = { done: '●', running: '◐', ahead: '○', failed: '▲' }
const WORDS = {
  done: 'done',
  running: 'running',
  ahead: 'waiting',
  failed: 'failed',
  cancelled: 'cancelled',
  skipped: 'left out',
  unreached: 'not reached',
  ended: 'no verdict',
} as const

/** The steps of something that runs, in order, with their times. */
export function Stepper({ steps, label }: { steps: readonly Step[]; label: string }) {
  return (
    <ol class="stepper" aria-label={label}>
      {steps.map(({ label: name, state, at, note, progress }) => (
        <li key={name} class={`step step-${state}`} aria-current={state === 'running' ? 'step' : undefined}>
          <span class="step-shape" aria-hidden="true">
            {SHAPES[state] ?? '–'}
          </span>
          <span class="step-name">{name}</span>
          <span class="step-state">
            {state === 'running' && progress !== undefined ? formatProgress(progress) : WORDS[state]}
            {at && (
              <>
                {' '}
                <Time at={at} />
              </>
            )}
          </span>
          {progress !== undefined && state === 'running' && <ProgressBar value={progress} label={name} />}
          {note !== undefined && <span class="step-note">{note}</span>}
        </li>
      ))}
    </ol>
  )
}

/** A bar of how much is done. */
export function ProgressBar({ value, label }: { value: number; label: string }) {
  return (
    <progress class="progress" max={1} value={value} aria-label={`${label}: ${formatShare(value)} done`} />
  )
}

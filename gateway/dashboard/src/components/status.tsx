import type { ComponentChildren } from 'preact'
import type { Tone } from './tone.ts'

const SHAPES: Readonly<Record<Tone, string>> = { good: '●', harm: '▲', busy: '◐', quiet: '○' }

/** A state in one word, with a shape. */
export function Status({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return (
    <span class={`status status-${tone}`}>
      <span aria-hidden="true">{SHAPES[tone]}</span> {children}
    </span>
  )
}

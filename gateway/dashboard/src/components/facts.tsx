import type { ComponentChildren } from 'preact'

/** One figure with its label. */
export interface Fact {
  label: string
  value: ComponentChildren
  /** More on hover. */
  title?: string | undefined
  /** Beside the value, such as a sparkline. */
  beside?: ComponentChildren
}

/** Figures in a row, or two in a row on a phone. Their places keep their size while numbers change. */
export function Facts({ facts }: { facts: readonly Fact[] }) {
  return (
    <dl class="facts">
      {facts.map(({ label, value, title, beside }) => (
        <div key={label} title={title}>
          <dt>{label}</dt>
          <dd>
            <span class="fact-value">{value}</span>
            {beside}
          </dd>
        </div>
      ))}
    </dl>
  )
}

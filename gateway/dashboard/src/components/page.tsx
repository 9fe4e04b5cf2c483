import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import type { Resource } from '../data/resource.ts'
import { useNavigation } from '../navigation/navigation.tsx'

interface PageProps {
  title: string
  /** The present state, in words with numbers. Read aloud when it changes. */
  sentence?: ComponentChildren
  /** Links and buttons: beside the title, on a phone below the sentence. */
  actions?: ComponentChildren
  /** Links to the parent pages, above the title. */
  above?: ComponentChildren
  children?: ComponentChildren
}

/** A page: its title, its sentence, then the evidence. Going to a page moves the focus to its title. */
export function Page({ title, sentence, actions, above, children }: PageProps) {
  const heading = useRef<HTMLHeadingElement>(null)
  const { moves } = useNavigation()
  useEffect(() => {
    document.title = `${title} · copal`
  }, [title])
  useEffect(() => {
    if (moves > 0) heading.current?.focus({ preventScroll: true })
  }, [moves])
  return (
    <>
      <header class="page-head">
        {above !== undefined && <p class="page-above">{above}</p>}
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        {sentence !== undefined && (
          <div class="sentence" aria-live="polite">
            {sentence}
          </div>
        )}
        {actions && <div class="page-actions">{actions}</div>}
      </header>
      {children}
    </>
  )
}

/** Placeholder of a sentence while its data load. */
export function SentencePlace() {
  return (
    <p class="sentence-place">
      <span class="visually-hidden">Loading</span>
    </p>
  )
}

/** The sentence of a resource; its place while the resource loads, so that nothing moves when it comes. */
export function sentenceWhenLoaded<T>(
  { value, error }: Pick<Resource<T>, 'value' | 'error'>,
  sentence: (value: T) => ComponentChildren,
): ComponentChildren {
  if (value !== undefined) return sentence(value)
  return error ? undefined : <SentencePlace />
}

interface SectionProps {
  title: string
  /** A short explanation beside the title. */
  note?: ComponentChildren
  actions?: ComponentChildren
  children: ComponentChildren
  class?: string
}

/** A part of a page, with a heading of the second level. */
export function Section({ title, note, actions, children, class: className = '' }: SectionProps) {
  return (
    <section class={`section ${className}`}>
      <div class="section-head">
        <h2>{title}</h2>
        {note !== undefined && <p class="soft">{note}</p>}
        {actions !== undefined && <div class="section-actions">{actions}</div>}
      </div>
      {children}
    </section>
  )
}

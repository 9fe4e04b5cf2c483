import { useLayoutEffect, useRef, useState } from 'preact/hooks'

/** A text that shows its first two lines, and the others on request. */
export function Folded({ text }: { text: string }) {
  const paragraph = useRef<HTMLParagraphElement>(null)
  const [isOpen, setOpen] = useState(false)
  const [isLong, setLong] = useState(false)
  // Before the text is painted, so that the button does not move what is below.
  useLayoutEffect(() => {
    const element = paragraph.current
    if (!element || isOpen) return undefined
    const measure = () => setLong(element.scrollHeight > element.clientHeight + 1)
    measure()
    const resizing = new ResizeObserver(measure)
    resizing.observe(element)
    return () => resizing.disconnect()
  }, [text, isOpen])
  return (
    <div class="folded">
      <p ref={paragraph} class={isOpen ? 'soft' : 'soft folded-text'}>
        {text}
      </p>
      {(isLong || isOpen) && (
        <button type="button" class="link" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
          {isOpen ? 'less' : 'more'}
        </button>
      )}
    </div>
  )
}

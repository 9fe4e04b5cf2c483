import { useEffect, useState } from 'preact/hooks'

/** Copies a text; says so, or that the browser does not allow it. */
export function CopyButton({ text, label = 'Copy' }: { text: string; label?: string }) {
  const [result, setResult] = useState<'copied' | 'failed'>()
  useEffect(() => {
    if (result === undefined) return undefined
    const timer = setTimeout(() => setResult(undefined), 2_000)
    return () => clearTimeout(timer)
  }, [result])
  const copy = () => {
    // Without a secure context there is no clipboard.
    const written = navigator.clipboard?.writeText(text) ?? Promise.reject(new Error('no clipboard'))
    written.then(
      () => setResult('copied'),
      () => setResult('failed'),
    )
  }
  return (
    <button type="button" class="button button-small" onClick={copy} aria-live="polite">
      {result === 'copied' ? 'Copied' : result === 'failed' ? 'Select the text and copy it' : label}
    </button>
  )
}

/** Code or a command with a button that copies it. */
export function Code({ text, label }: { text: string; label: string }) {
  return (
    <div class="code">
      <pre tabIndex={0} aria-label={label}>
        <code>{text}</code>
      </pre>
      <CopyButton text={text} />
    </div>
  )
}

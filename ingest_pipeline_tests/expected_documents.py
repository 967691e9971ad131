"""What each file of the corpus says, written down by somebody who read it. Compared without regard to white space."""

from __future__ import annotations

PHRASES: dict[str, str] = {
    "docx/docling-word_sample.docx": "Here are some interesting things a respectful duck could eat",
    "docx/fully-featured-layout.docx": "it is not always rendered correctly by some engines",
    "docx/lorem-ipsum.docx": "Curabitur porta massa eget diam pharetra tempus",
    "docx/pandoc-lists.docx": "Different list adjacent to the one above",
    "docx/pandoc-notes.docx": "This is an endnote at the end of the document",
    "docx/pandoc-tables.docx": "Tacky uniform",
    "docx/pandoc-track_changes_insertion.docx": "text with two exciting insertions",
    "docx/pandoc-unicode.docx": "世界. This costs €10",
    "docx/python-docx-blk-paras-and-tables.docx": "Donec semper facilisis metus finibus malesuada",
    "docx/python-docx-comments-rich-para.docx": "Other text worthy of note",
    "docx/python-docx-doc-access-sections.docx": "Section three (sentinel section) paragraph",
    "docx/tika-2006ml.docx": "This should point to an endnote",
    "docx/tika-various.docx": "ゾルゲと尾崎、淡々と最期",
    "epub/audacity-manual.uk.epub": "ви можете керувати обсягом, збільшуючи або зменшуючи обсяг",
    "epub/debian-policy.epub": "This recommendation includes the contents of the",
    "epub/developers-reference.ja.epub": "ユーザは容易にそのような注意書きを",
    "epub/live-manual.en.epub": "do not explain unnecessary details. Your readers are intelligent",
    "epub/live-manual.ja.epub": "抽象的な表現で読み手を混乱させる",
    "epub/live-manual.pt_BR.epub": "cobrem apenas algumas das coisas que você pode querer fazer",
    "epub/lorem-ipsum-calibre.epub": "Phasellus erat lacus, eleifend vitae eleifend vel, malesuada sed ante",
    "epub/project-history.ko.epub": "리눅스 운영체제가 성공할 수 있는 필수",
    "epub/project-history.ru.epub": "остаются с огромным количеством ошибок и плохой поддержкой",
    "epub/ubuntu-packaging-guide-epub-pt-br.epub": "uma listagem das mudanças feitas em cada versão",
    "epub/ubuntu-packaging-guide-epub-uk.epub": (
        "використовується для створення оточення, у якому виконуються тестові збірки"
    ),
    "epub/ubuntu-packaging-guide-epub.epub": "it is very important to document",
    "html/bind9-dnssec-guide.html": "the default policy used by BIND sets a value of 14 days",
    "html/debian-faq-choosing.pt.html": "Isto é feito para assegurar que não existirão nenhuns problemas severos",
    "html/debian-faq-pkg-basics.zh-cn.html": "希望保持当前的版本和当前的状态",
    "html/debian-reference-ch09.pt.html": "consomem espaço no disco apesar de não estarem visíveis",
    "html/devils-dictionary.htm": "sees in an exception a proof of the rule the wisdom of an act",
    "html/doublecmd-help.uk.html": "курсор опускаеться вниз відмічаючи файли",
    "html/doublecmd-regexp.uk.html": "де вони не можуть бути сприйняті як повторювач",
    "html/exim-access-control-lists.html": "what follows the slash can in fact be a list of items",
    "html/kanjidic_doc_legacy.iso-8859-1.html": "Halpern as 7 for 常用 and 人名用漢字",
    "html/live-manual.ja.html": "空白文字の可能性を考慮し",
    "html/securing-debian-ch12.de.html": "ein entschlossener Angreifer neben der von Ihnen entdeckten Sicherheitslücke",
    "html/tika-arabic-misleading-charset.html": "كان هناك رجل حكيم يعرف كل شيء عن الحياة",
    "html/tika-noisy-meta-encoding.html": "مصالحه والضرر الكبير الناجم عن ذلك",
    "html/tika-utf16le.html": "This is a sample text",
    "html/ubuntu-packaging-guide-uk-fixing-a-bug.html": (
        "Щоб зібрати тестовий пакунок з Вашими змінами, виконайте такі команди"
    ),
    "html/ubuntu-packaging-guide-uk-index.html": "символьне посилання, що вказує на справжню бібліотеку",
    "md/howtocook/咖喱炒蟹.md": "不断翻炒，一直到酱汁变浓稠",
    "md/howtocook/无骨鸡爪.md": "需要注意观察沸腾的水位线",
    "md/howtocook/烤蛋挞.md": "请务必小心烤箱高温 防止烫伤",
    "md/howtocook/煮锅蒸米饭.md": "中途切勿打开锅盖",
    "md/howtocook/黄焖鸡.md": "青椒基本断生即可，不要炒",
    "md/pandoc-manual.md.txt": "but can be changed to support more complicated structures",
    "md/recipe-aelplermagronen.md": "it is most likely due to using the wrong cheese",
    "md/recipe-aglio-e-olio.md": "The starch in the pasta water will help the sauce emulsify",
    "md/rust-book-pt-br-ch04-01.md": "muita cerimônia e trabalho para um conceito que deveria ser comum",
    "md/rust-book-uk-ch01-00-getting-started.md": "менеджера пакунків і системи збірки Rust",
    "md/rust-book-uk-ch03-04-comments.md": "де коментар знаходиться в окремому рядку перед кодом",
    "md/thanksgiving-2015-readme.md": "How much total combined money did all members of your HOUSEHOLD",
    "pdf/GeoTopo-komprimiert.pdf": "topologischer Raum ist folgt diese Richtung direkt aus",
    "pdf/Seige_of_Vicksburg_Sample_OCR.pdf": "her only brother once more before she passes away",
    "pdf/an-introduction-to-mathematics.pdf": "Resonance arises when two sets of connected circumstances have the same",
    "pdf/audacity-manual.uk.pdf": "виберіть, що ви хочете використовувати для видалення шуму",
    "pdf/bashref.pdf": "killed on a previously typed line is available to be yanked back",
    "pdf/crazyones-pdfa.pdf": "people who are crazy enough to think they can change the world",
    "pdf/debian-reference.en.pdf": "the LaTeX system is used to create printable",
    "pdf/debian-reference.pt.pdf": "O seguinte obtém chaves desconhecidas do servidor de chaves",
    "pdf/debian-reference.zh-cn.pdf": "在自动启动时，避免一个慢的",
    "pdf/developers-reference.ja.pdf": "何も大きな問題を見つけなければ",
    "pdf/gamelan-sheet-music.pdf": "etc. sempre da capo",
    "pdf/gmsh.pdf": "Get the entities (if any) embedded in the model entity of dimension",
    "pdf/google-doc-document.pdf": "In the face of ambiguity, refuse the temptation to guess",
    "pdf/habibi.pdf": "habibi",
    "pdf/libre-office-link.pdf": "This is a link to an awesome blog",
    "pdf/minimal-document.pdf": "et accusam et justo duo dolores et ea rebum",
    "pdf/mistitled_outlines_example.pdf": "it should be written in of the original language",
    "pdf/multicolumn.pdf": "habitant morbi tristique senectus et netus et malesuada fames",
    "pdf/multilang.pdf": "こんにちは世界",
    "pdf/packaging-tutorial-slides.es.pdf": "Se integran y eliminan de las fuentes durante la construcción",
    "pdf/pdflatex-4-pages.pdf": "no need for special content, but the length of words",
    "pdf/pdflatex-forms.pdf": "Submit",
    "pdf/pdflatex-image.pdf": "et accusam et justo duo dolores et ea rebum",
    "pdf/pdflatex-outline.pdf": "it should be written in of the original language",
    "pdf/project-history.en.pdf": "willingness to help fostered a spirit of collaboration within the",
    "pdf/project-history.ko.pdf": "끔찍한교통사고로세상을떠났다",
    "pdf/project-history.pt.pdf": "e continuou a ser um contribuidor activo até falecer",
    "pdf/refcard-en-a4.pdf": "Show which package a file",
    "pdf/refcard-uk-a4.pdf": "Встановити самі нові версії",
    "pdf/refcard-zh_CN-a4.pdf": "安装所有当前已经安装的软件包",
    "pdf/ubuntu-packaging-guide-pdf-uk.pdf": "Тут невелика проґрама мовою",
    "pdf/with-attachment.pdf": "et accusam et justo duo dolores et ea rebum",
    "pdf/zsh.pdf": "session is created in the usual way and is largely indistinguishable",
    "records/bio_events.jsonl": "is induced later during differentiation and sustains",
    "records/candy-data.csv": "Tootsie Roll Snack Bars",
    "records/commencement_speeches.csv": "Commencement Address at Eastern Michigan University in Ypsilanti, Michigan",
    "records/food-world-cup-data.csv": "3306462513",
    "records/plot_summaries.jsonl": "There are many moments in the film where one may realize",
    "records/raw_github-issue-titles.jsonl": "should force the path to the ceph.conf, keyring and CephX username",
    "records/tate-artist_data.csv": "Payne and Relph, Oliver and Nick",
    "records/tate-simplified_artwork_data.csv": "P/P06/P06225_8.jpg",
    "records/thanksgiving-2015-poll-data.csv": "usually some other pie along with an apple pie",
    "retrieval/scifact/corpus.jsonl.gz": "the epigenetic memory may predispose BiPSCs to differentiate more readily",
    "retrieval/scifact/qrels/test.tsv": "28617573",
    "retrieval/scifact/queries.jsonl": "higher longitudinal sensitivity than conventional cytology to detect",
    "retrieval/xquad/xquad.en.json": "a school for students with learning disabilities, maintains a location",
    "retrieval/xquad/xquad.zh.json": "专为有学习障碍的学生开设",
    "txt/California_SOTS.txt": "drove straight to the hospital in the middle of town",
    "txt/Virginia_SOTS.txt": "make sure that our children have the best chance possible",
    "txt/debian-faq.pt.txt": "encontrar ficheiros em pacotes que não estão actualmente instalados",
    "txt/debian-faq.ru.txt": "Авторы хотели бы поблагодарить всех, кто сделал возможным выход",
    "txt/debian-faq.zh-cn.txt": "安装这些库是因为有个包含应用",
    "txt/english.cp500.txt": "submitted to Standard Performance Evaluation Corporation",
    "txt/entre-nous.fr.iso-8859-1.txt": "Henriette sera la maîtresse, car elle est",
    "txt/kanjidic.euc-jp.txt": "たのし.む ひか.る ひろ.い よろこ.ぶ かわ.く",
    "txt/live-manual.en.txt": "To make the most out of your bug report, we require",
    "txt/live-manual.ja.txt": "ビルドプロセスのログを生成する",
    "txt/ontboezemingen.nl.iso-8859-1.txt": "twee categoriën van booze geesten",
    "txt/russian.cp866.txt": "Лошадку ведет под уздцы мужичок",
    "txt/tang300.zh.txt": "寂寂江山摇落处，怜君何事到天涯",
    "txt/thesaurus.uk.txt": "живий лише у сні",
    "txt/tika-multi-language.txt": "español ABC todos ganan con el anticipo",
    "txt/tika-win-1252.txt": "CharsetRecog_sbcs to think this is a",
}

# ordinary files that hold no text layer
NO_TEXT = (
    "docx/python-docx-having-images.docx",  # three images in header and body, not one w:t anywhere
    "pdf/grayscale-image.pdf",  # one page, one image
    "pdf/imagemagick-CCITTFaxDecode.pdf",  # one page, one fax image
)

# How each damaged, encrypted or hostile file ends: with a phrase of its text, or with the reason of its failure.
BAD: dict[str, tuple[str, str | None]] = {
    # xref off by one byte; poppler, pypdf, mupdf all repair it
    "bad/cabinet-corruptionOneByteMissing.pdf": ("indexed", "test document. It only contains some text"),
    # empty user password; only the permission bit forbids copying; poppler and pypdf read it
    "bad/cabinet-encryption_notextaccess.pdf": ("indexed", "test document. It only contains some text"),
    # AES, user password not known to poppler, pypdf, qpdf
    "bad/cabinet-encryption_openpassword.pdf": ("failed", "EncryptedDocument"),
    # ordinary; fonts not embedded
    "bad/cabinet-text_only_fontsNotEmbedded.pdf": ("indexed", "test document. It only contains some text"),
    # %PDF header is missing, the rest is whole; poppler, pypdf, mupdf read it, a sniffer may not
    "bad/handbuilt-T01_006_header-invalid-syntax-no-pdf.pdf": ("indexed", "Hello PDF-world!"),
    # /Root points to nothing; poppler, pypdf, qpdf, mupdf refuse (the words Hello PDF-world! lie bare in a stream)
    "bad/handbuilt-T02-01_001_document-catalog-No-document-catalog.pdf": ("failed", "UnreadableDocument"),
    # arguable: page tree points only at itself: poppler opens it with 0 pages, pypdf and mupdf raise; NoText is
    # arguable (the words lie bare in an orphan page)
    "bad/handbuilt-T02-02_002_page-tree-kids-links-recursive.pdf": ("failed", "UnreadableDocument"),
    # arguable: the only kid does not exist: poppler and pypdf open it with 0 pages, mupdf with 1 blank one; NoText is
    # arguable
    "bad/handbuilt-T02-02_004_page-tree-non-existing-object-as-kid.pdf": ("failed", "UnreadableDocument"),
    # arguable: poppler reads it, pypdf and mupdf fail; the text stands in clear
    "bad/handbuilt-T02-05-01_014_endstream-keyword-missing.pdf": ("indexed", "Hello PDF-world!"),
    # arguable: poppler and mupdf read it, pypdf trips over the float /Length
    "bad/handbuilt-T02-05-01_015_invalid-stream-length-in-dictionary.pdf": ("indexed", "Hello PDF-world!"),
    # no xref; poppler, pypdf, mupdf rebuild it
    "bad/handbuilt-T03_001_no-cross-reference-table.pdf": ("indexed", "Hello PDF-world!"),
    # wrong offset; poppler, pypdf, mupdf rebuild it
    "bad/handbuilt-T03_007_offset_wrong.pdf": ("indexed", "Hello PDF-world!"),
    # text after a premature %%EOF; poppler, pypdf, mupdf read it. Trap: pdfium opens it with one BLANK page and no
    # error, so only a second try on blank pages finds the text
    "bad/handbuilt-T04_006_premature-EOF.pdf": ("indexed", "Hello PDF-world!"),
    # arguable: no trailer keyword: poppler, pypdf, qpdf refuse; only mupdf reads Hello PDF-world!
    "bad/handbuilt-T04_008_trailer-no-trailer-keyword.pdf": ("failed", "UnreadableDocument"),
    # user password needed (RC4 128)
    "bad/libreoffice-writer-password.pdf": ("failed", "EncryptedDocument"),
    # arguable: shows (ab) in a Type3 font whose glyphs are shapes: poppler says ab, pypdf the glyph names, mupdf
    # refuses; NoText is arguable
    "bad/pdfjs-ContentStreamCycleType3insideType3.pdf": ("indexed", "ab"),
    # one page, content stream of length 0, no fonts; poppler and pypdf open it (xref is broken, mupdf refuses)
    "bad/pdfjs-GHOSTSCRIPT-698804-1-fuzzed.pdf": ("failed", "NoText"),
    # page content is an empty stream, all its text is in its one form field; pypdf cannot read the trailer
    "bad/pdfjs-PDFBOX-3148-2-fuzzed.pdf": ("indexed", "1 2 3 4"),
    # pdfium opens a blank page; its Encrypt dictionary is broken
    "bad/pdfjs-PDFBOX-4352-0.pdf": ("failed", "NoText"),
    # arguable: second branch of the page tree loops; poppler and mupdf read page 1, pypdf raises
    "bad/pdfjs-Pages-tree-refs.pdf": ("indexed", "Pages loop"),
    # hostile /W in the xref stream and a truncated rest; poppler, pypdf, mupdf refuse
    "bad/pdfjs-REDHAT-1531897-0.pdf": ("failed", "UnreadableDocument"),
    # arguable: clear text in the first content stream, then three JBIG2 streams of 100000x100000: poppler and mupdf
    # run > 40 s, pypdf wants jbig2dec; ParserOutOfMemory arguable
    "bad/pdfjs-bomb_giant.pdf": ("indexed", "GIANT JBIG2 BOMB"),
    # no proper %PDF header at the start; poppler, pypdf, mupdf read it
    "bad/pdfjs-bug1606566.pdf": ("indexed", "Bug 1606566"),
    # arguable: object numbers above 65535: pypdf, mupdf and qpdf read it, poppler cannot find the catalog; the rest
    # is a wall of 16000 letters a
    "bad/pdfjs-bug1978317.pdf": ("indexed", "Hello World"),
    # arguable: three pages painted red, green, ...; no font at all; poppler and mupdf open it, pypdf raises
    # LimitReached
    "bad/pdfjs-filled-background.pdf": ("failed", "NoText"),
    # ECG print-out; pypdf puts a space after every letter, poppler does not
    "bad/pdfjs-issue12295.pdf": ("indexed", "Heart rate [bpm]"),
    # Russian tax form whose OCR text layer is Latin look-alikes; poppler, pypdf, mupdf agree
    "bad/pdfjs-issue12963.pdf": ("indexed", "pa6om, ycnyz unu cyMMa"),
    # ordinary pages, deep outline
    "bad/pdfjs-nested_outline.pdf": ("indexed", "Content for Future Work"),
    # arguable: operators inside a TJ array: poppler reads all, pypdf and mupdf nothing
    "bad/pdfjs-operator-in-TJ-array.pdf": ("indexed", "Clientèles, Financements et"),
    # form XObject and pattern call each other; no font, no text operator in the file
    "bad/pdfjs-operator_list_cycle.pdf": ("failed", "NoText"),
    # page tree object gone and the only content stream is wrecked; poppler 0 pages, pypdf page error (only signature
    # annotations hold words)
    "bad/pdfjs-poppler-395-0-fuzzed.pdf": ("failed", "UnreadableDocument"),
    # arguable: /Count 9999999999: pypdf and mupdf read it, poppler sees 0 pages
    "bad/pdfjs-poppler-67295-0.pdf": ("indexed", "TestString123"),
    # Kids array broken, most streams wrecked; poppler 0 pages, pypdf, qpdf, mupdf refuse
    "bad/pdfjs-poppler-742-0-fuzzed.pdf": ("failed", "UnreadableDocument"),
    # pdfium opens a blank page; there is no text in it
    "bad/pdfjs-poppler-85140-0.pdf": ("failed", "NoText"),
    # arguable: fuzzed paper, 16 pages: poppler finds two crumbs, mupdf other ones on the last pages, pypdf only
    # errors and blanks; UnreadableDocument arguable
    "bad/pdfjs-poppler-90-0-fuzzed.pdf": ("indexed", "4 Review of"),
    # arguable: /Count refers to itself: pypdf reads it, poppler 0 pages, mupdf refuses; the text stands in clear
    "bad/pdfjs-poppler-91414-0-53.pdf": ("indexed", "foobar"),
    # arguable: Kids array broken: poppler 0 pages, pypdf raises; there is no font and no text in the file, so NoText
    # is arguable
    "bad/pdfjs-poppler-937-0-fuzzed.pdf": ("failed", "UnreadableDocument"),
    # arguable: 0 bytes; nothing is damaged, there is just nothing; UnreadableDocument would be as honest
    "bad/pdfplumber-empty.pdf": ("failed", "NoText"),
    # empty user password; 3 pages with one scanned page image, no font; poppler and pypdf agree
    "bad/pypdf-encrypted_doc_no_id.pdf": ("failed", "NoText"),
    # broken xref and obj header; poppler, pypdf, mupdf read it
    "bad/pypdf-issue-297.pdf": ("indexed", "test example"),
    # scan of squared paper with an OCR layer of noise; poppler, pypdf, mupdf agree
    "bad/pypdf-issue-301.pdf": ("indexed", "1111101"),
    # ordinary text, broken outline
    "bad/pypdf-outline-without-title.pdf": ("indexed", "should be written in of the original language"),
    # ordinary text, broken outline
    "bad/pypdf-outlines-with-invalid-destinations.pdf": ("indexed", "should be written in of the original language"),
    # user password needed (R2)
    "bad/pypdf-r2-user-password.pdf": ("failed", "EncryptedDocument"),
    # user password needed (R4 AES)
    "bad/pypdf-r4-aes-user-password.pdf": ("failed", "EncryptedDocument"),
    # empty user password; poppler, pypdf (with cryptography), qpdf read it
    "bad/pypdf-r4-aes-v2-no-key-length.pdf": ("indexed", "pdf encryption test"),
    # user and owner password (R6)
    "bad/pypdf-r6-both-passwords.pdf": ("failed", "EncryptedDocument"),
    # R6 with an empty user password; poppler, pypdf (with cryptography), qpdf read it
    "bad/pypdf-r6-empty-password.pdf": ("indexed", "pdf encryption test"),
    # AES with an empty user password; poppler, pypdf, qpdf read all 30 pages
    "bad/qpdf-V4-aes.pdf": ("indexed", "Potato 29"),
    # xref /Prev loop; poppler and pypdf read 30 pages, mupdf refuses
    "bad/qpdf-append-xref-loop.pdf": ("indexed", "Potato 29"),
    # only qpdf opens it, with the empty password
    "bad/qpdf-bad-encryption-length.pdf": ("failed", "EncryptedDocument"),
    # arguable: five bytes, the word oops, under a .pdf name; text by the rule for plain text named .pdf;
    # UnreadableDocument arguable
    "bad/qpdf-bad1.pdf": ("indexed", "oops"),
    # arguable: invalid /Prev: poppler reads the update (Salad; a reader may find the older Potato), pypdf TypeError
    "bad/qpdf-bad11.pdf": ("indexed", "Salad"),
    # arguable: no startxref: poppler, mupdf, qpdf rebuild it, pypdf refuses
    "bad/qpdf-bad2.pdf": ("indexed", "Potato"),
    # arguable: broken stream /Length: poppler and mupdf read it, pypdf page error
    "bad/qpdf-bad23.pdf": ("indexed", "Potato"),
    # arguable: broken stream /Length: poppler and mupdf read it, pypdf page error
    "bad/qpdf-bad24.pdf": ("indexed", "Potato"),
    # poppler reads it; pdfium and pypdf both refuse
    "bad/qpdf-bad35.pdf": ("failed", "UnreadableDocument"),
    # arguable: number where the trailer dictionary should be: poppler, pypdf, qpdf refuse; only mupdf finds Potato
    "bad/qpdf-bad7.pdf": ("failed", "UnreadableDocument"),
    # bad LZW; nothing in it is drawn as text
    "bad/qpdf-broken-lzw.pdf": ("failed", "NoText"),
    # broken tails in content streams; poppler and mupdf read 4 pages, pypdf 3
    "bad/qpdf-content-stream-errors.pdf": ("indexed", "Potato"),
    # arguable: page tree over 100 deep, its leaf has no content and no font: poppler 0 pages, pypdf raises; NoText is
    # arguable
    "bad/qpdf-deep-pages.pdf": ("failed", "UnreadableDocument"),
    # user password is view
    "bad/qpdf-enc-R2_V1_U-view_O-view.pdf": ("failed", "EncryptedDocument"),
    # user password is view (R6)
    "bad/qpdf-enc-XI-R6_V5_U-view_O-master.pdf": ("failed", "EncryptedDocument"),
    # long user password
    "bad/qpdf-enc-long-password.pdf": ("failed", "EncryptedDocument"),
    # empty user password; 2 pages with pictures of a logo only; poppler and pypdf agree
    "bad/qpdf-encrypted-with-images.pdf": ("failed", "NoText"),
    # arguable: content ends inside an inline image: poppler and mupdf read the text before it, pypdf page error
    "bad/qpdf-eof-in-inline-image.pdf": ("indexed", "Potato"),
    # arguable: wrecked: poppler rebuilds one blank page, pypdf and mupdf refuse; NoText arguable
    "bad/qpdf-fuzz-16214.pdf": ("failed", "UnreadableDocument"),
    # PDF under an unknown extension; poppler, pypdf, mupdf read it
    "bad/qpdf-fuzz-26994.fuzz": ("indexed", "Potato 29"),
    # arguable: several fuzzed PDFs glued together, bytes before %PDF: poppler 7 blank pages, pypdf and mupdf refuse;
    # NoText or reading it as plain text arguable
    "bad/qpdf-fuzz-69977.fuzz": ("failed", "UnreadableDocument"),
    # arguable: self-referring /Length; the font dictionary is empty, so a page with one image and no text; poppler
    # and mupdf open it blank, pypdf page error
    "bad/qpdf-issue-117.pdf": ("failed", "NoText"),
    # arguable: 91 bytes, a trailer with an Encrypt reference and no body, no %PDF header; poppler, pypdf, mupdf
    # refuse; could be taken for plain text
    "bad/qpdf-issue-147.pdf": ("failed", "UnreadableDocument"),
    # arguable: poppler and mupdf read 10 pages, pypdf finds no Root
    "bad/qpdf-issue-202.pdf": ("indexed", "Each chapter should be included in the main document as a separate file"),
    # only pypdf opens it; no text
    "bad/qpdf-issue-99.pdf": ("failed", "NoText"),
    # hostile hint table only; poppler, pypdf, mupdf read 30 pages
    "bad/qpdf-linearization-large-vector-alloc.pdf": ("indexed", "Potato 29"),
    # 400000 nulls in an object stream (2 MB from 3 KB); one page without content; pypdf opens it, poppler sees 0
    # pages (/Count 0)
    "bad/qpdf-many-nulls.pdf": ("failed", "NoText"),
    # /Type misspelt; poppler, pypdf, mupdf read it
    "bad/qpdf-no-pages-types.pdf": ("indexed", "Potato"),
    # outline loops, pages are fine
    "bad/qpdf-outlines-with-loop.pdf": ("indexed", "Salad 29"),
    # three pages, the middle one without content
    "bad/qpdf-page-no-content.pdf": ("indexed", "Potato"),
    # arguable: page tree names itself: poppler and mupdf read page 1, pypdf raises
    "bad/qpdf-pages-loop.pdf": ("indexed", "Potato"),
    # a blank page to all but qpdf, which mends it
    "bad/qpdf-stream-line-enders.pdf": ("failed", "NoText"),
    # odd tokens; poppler, pypdf (most pages), mupdf read it
    "bad/qpdf-tokens.pdf": ("indexed", "Potato"),
    # /PlateDecode: a filter that nobody knows; a blank page
    "bad/qpdf-unfilterable.pdf": ("failed", "NoText"),
    # poppler reads 30 pages, pypdf all but page 14; page 28 itself says Potato 7 to pypdf; qpdf --check crashes
    "bad/qpdf-xref-compressed-in-compressed.pdf": ("indexed", "Potato 28"),
    # windows-1251, declared only at byte 4970 after a long script; <html> starts at byte 4713
    "bad/tika-big-preamble.html": ("indexed", "агентство недвижимости предлагает снять квартиру в аренду посуточно"),
    # bare .zip; its header claims 2 GB for the 12 bytes of hello.txt
    "bad/tika-corrupted-oom.zip": ("failed", "UnsupportedFormat"),
    # the page says only the letter a; 20 PDFs attached and nested
    "bad/tika-deeply-embedded-attachments.pdf": ("indexed", "a"),
    # bare .zip holding itself
    "bad/tika-droste.zip": ("failed", "UnsupportedFormat"),
    # spine documents are named .xml; __MACOSX litter
    "bad/tika-epub-xml-ext.epub": ("indexed", "It was a bright cold day in April, and the clocks were striking"),
    # OLE container with EncryptedPackage
    "bad/tika-password.docx": ("failed", "EncryptedDocument"),
    # ASCII text under a .pdf name
    "bad/tika-plain-text-named.pdf": ("indexed", "WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND"),
    # gzip whose content is the same gzip
    "bad/tika-quine.gz": ("failed", "UnsupportedFormat"),
    # one short paragraph; a zip in an OLE object inside
    "bad/tika-recursive-embedded.docx": ("indexed", "embed_0"),
    # 763 bytes, cut off before word/document.xml, no central directory
    "bad/tika-truncated.docx": ("failed", "UnreadableDocument"),
    # arguable: XML with an external DTD and no text of its own; read as plain text the markup is the text; an XML
    # reader would say NoText
    "bad/tika-xxe.xml": ("indexed", "couldnt_possibly_exist"),
}

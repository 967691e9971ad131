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

# how each damaged, encrypted or hostile file should end; "UNSURE" marks what is open to judgement,
# "UNSURE (readers only)" where poppler and pypdf disagree and the text is plainly there
BAD: dict[str, tuple[str, str | None]] = {
    "bad/cabinet-corruptionOneByteMissing.pdf": (  # xref off by one byte; poppler, pypdf, mupdf all repair it
        "indexed",
        "test document. It only contains some text",
    ),
    "bad/cabinet-encryption_notextaccess.pdf": (  # empty user password; only the permission bit forbids copying;
        # poppler and pypdf read it
        "indexed",
        "test document. It only contains some text",
    ),
    "bad/cabinet-encryption_openpassword.pdf": (  # AES, user password not known to poppler, pypdf, qpdf
        "failed",
        "EncryptedDocument",
    ),
    "bad/cabinet-text_only_fontsNotEmbedded.pdf": (  # ordinary; fonts not embedded
        "indexed",
        "test document. It only contains some text",
    ),
    "bad/handbuilt-T01_006_header-invalid-syntax-no-pdf.pdf": (  # %PDF header is missing, the rest is whole; poppler,
        # pypdf, mupdf read it, a sniffer may not
        "indexed",
        "Hello PDF-world!",
    ),
    "bad/handbuilt-T02-01_001_document-catalog-No-document-catalog.pdf": (  # /Root points to nothing; poppler, pypdf,
        # qpdf, mupdf refuse (the words Hello PDF-world! lie bare in a stream)
        "failed",
        "UnreadableDocument",
    ),
    "bad/handbuilt-T02-02_002_page-tree-kids-links-recursive.pdf": (  # UNSURE: page tree points only at itself: poppler
        # opens it with 0 pages, pypdf and mupdf raise; NoText is arguable (the words lie bare in an orphan page)
        "failed",
        "UnreadableDocument",
    ),
    "bad/handbuilt-T02-02_004_page-tree-non-existing-object-as-kid.pdf": (  # UNSURE: the only kid does not exist:
        # poppler and pypdf open it with 0 pages, mupdf with 1 blank one; NoText is arguable
        "failed",
        "UnreadableDocument",
    ),
    "bad/handbuilt-T02-05-01_014_endstream-keyword-missing.pdf": (  # UNSURE (readers only): poppler reads it, pypdf and
        # mupdf fail; the text stands in clear
        "indexed",
        "Hello PDF-world!",
    ),
    "bad/handbuilt-T02-05-01_015_invalid-stream-length-in-dictionary.pdf": (  # UNSURE (readers only): poppler and mupdf
        # read it, pypdf trips over the float /Length
        "indexed",
        "Hello PDF-world!",
    ),
    "bad/handbuilt-T03_001_no-cross-reference-table.pdf": (  # no xref; poppler, pypdf, mupdf rebuild it
        "indexed",
        "Hello PDF-world!",
    ),
    "bad/handbuilt-T03_007_offset_wrong.pdf": (  # wrong offset; poppler, pypdf, mupdf rebuild it
        "indexed",
        "Hello PDF-world!",
    ),
    "bad/handbuilt-T04_006_premature-EOF.pdf": (  # text after a premature %%EOF; poppler, pypdf, mupdf read it. Trap:
        # pdfium opens it with one BLANK page and no error, so only a second try on blank pages finds the text
        "indexed",
        "Hello PDF-world!",
    ),
    "bad/handbuilt-T04_008_trailer-no-trailer-keyword.pdf": (  # UNSURE: no trailer keyword: poppler, pypdf, qpdf
        # refuse; only mupdf reads Hello PDF-world!
        "failed",
        "UnreadableDocument",
    ),
    "bad/libreoffice-writer-password.pdf": ("failed", "EncryptedDocument"),  # user password needed (RC4 128)
    "bad/pdfjs-ContentStreamCycleType3insideType3.pdf": (  # UNSURE: shows (ab) in a Type3 font whose glyphs are shapes:
        # poppler says ab, pypdf the glyph names, mupdf refuses; NoText is arguable
        "indexed",
        "ab",
    ),
    "bad/pdfjs-GHOSTSCRIPT-698804-1-fuzzed.pdf": (  # one page, content stream of length 0, no fonts; poppler and pypdf
        # open it (xref is broken, mupdf refuses)
        "failed",
        "NoText",
    ),
    "bad/pdfjs-PDFBOX-3148-2-fuzzed.pdf": (  # UNSURE: page content is an empty stream; poppler and mupdf open it blank,
        # pypdf cannot read the trailer (then UnreadableDocument)
        "failed",
        "NoText",
    ),
    "bad/pdfjs-PDFBOX-4352-0.pdf": (  # UNSURE: content is AES ciphertext, the Encrypt dictionary is broken: poppler and
        # mupdf blank page, pypdf and qpdf refuse; EncryptedDocument or NoText arguable
        "failed",
        "UnreadableDocument",
    ),
    "bad/pdfjs-Pages-tree-refs.pdf": (  # UNSURE (readers only): second branch of the page tree loops; poppler and mupdf
        # read page 1, pypdf raises
        "indexed",
        "Pages loop",
    ),
    "bad/pdfjs-REDHAT-1531897-0.pdf": (  # hostile /W in the xref stream and a truncated rest; poppler, pypdf, mupdf
        # refuse
        "failed",
        "UnreadableDocument",
    ),
    "bad/pdfjs-bomb_giant.pdf": (  # UNSURE: clear text in the first content stream, then three JBIG2 streams of
        # 100000x100000: poppler and mupdf run > 40 s, pypdf wants jbig2dec; ParserOutOfMemory arguable
        "indexed",
        "GIANT JBIG2 BOMB",
    ),
    "bad/pdfjs-bug1606566.pdf": (  # no proper %PDF header at the start; poppler, pypdf, mupdf read it
        "indexed",
        "Bug 1606566",
    ),
    "bad/pdfjs-bug1978317.pdf": (  # UNSURE (readers only): object numbers above 65535: pypdf, mupdf and qpdf read it,
        # poppler cannot find the catalog; the rest is a wall of 16000 letters a
        "indexed",
        "Hello World",
    ),
    "bad/pdfjs-filled-background.pdf": (  # UNSURE: three pages painted red, green, ...; no font at all; poppler and
        # mupdf open it, pypdf raises LimitReached
        "failed",
        "NoText",
    ),
    "bad/pdfjs-issue12295.pdf": (  # ECG print-out; pypdf puts a space after every letter, poppler does not
        "indexed",
        "Heart rate [bpm]",
    ),
    "bad/pdfjs-issue12963.pdf": (  # Russian tax form whose OCR text layer is Latin look-alikes; poppler, pypdf, mupdf
        # agree
        "indexed",
        "pa6om, ycnyz unu cyMMa",
    ),
    "bad/pdfjs-nested_outline.pdf": ("indexed", "Content for Future Work"),  # ordinary pages, deep outline
    "bad/pdfjs-operator-in-TJ-array.pdf": (  # UNSURE (readers only): operators inside a TJ array: poppler reads all,
        # pypdf and mupdf nothing
        "indexed",
        "Clientèles, Financements et",
    ),
    "bad/pdfjs-operator_list_cycle.pdf": (  # form XObject and pattern call each other; no font, no text operator in the
        # file
        "failed",
        "NoText",
    ),
    "bad/pdfjs-poppler-395-0-fuzzed.pdf": (  # page tree object gone and the only content stream is wrecked; poppler 0
        # pages, pypdf page error (only signature annotations hold words)
        "failed",
        "UnreadableDocument",
    ),
    "bad/pdfjs-poppler-67295-0.pdf": (  # UNSURE (readers only): /Count 9999999999: pypdf and mupdf read it, poppler
        # sees 0 pages
        "indexed",
        "TestString123",
    ),
    "bad/pdfjs-poppler-742-0-fuzzed.pdf": (  # Kids array broken, most streams wrecked; poppler 0 pages, pypdf, qpdf,
        # mupdf refuse
        "failed",
        "UnreadableDocument",
    ),
    "bad/pdfjs-poppler-85140-0.pdf": (  # UNSURE: no xref, object number overflow, empty content, no font: poppler 0
        # pages, pypdf, qpdf, mupdf refuse; NoText is arguable (there is no text in it)
        "failed",
        "UnreadableDocument",
    ),
    "bad/pdfjs-poppler-90-0-fuzzed.pdf": (  # UNSURE: fuzzed paper, 16 pages: poppler finds two crumbs, mupdf other ones
        # on the last pages, pypdf only errors and blanks; UnreadableDocument arguable
        "indexed",
        "4 Review of",
    ),
    "bad/pdfjs-poppler-91414-0-53.pdf": (  # UNSURE (readers only): /Count refers to itself: pypdf reads it, poppler 0
        # pages, mupdf refuses; the text stands in clear
        "indexed",
        "foobar",
    ),
    "bad/pdfjs-poppler-937-0-fuzzed.pdf": (  # UNSURE: Kids array broken: poppler 0 pages, pypdf raises; there is no
        # font and no text in the file, so NoText is arguable
        "failed",
        "UnreadableDocument",
    ),
    "bad/pdfplumber-empty.pdf": (  # UNSURE: 0 bytes; nothing is damaged, there is just nothing; UnreadableDocument
        # would be as honest
        "failed",
        "NoText",
    ),
    "bad/pypdf-encrypted_doc_no_id.pdf": (  # empty user password; 3 pages with one scanned page image, no font; poppler
        # and pypdf agree
        "failed",
        "NoText",
    ),
    "bad/pypdf-issue-297.pdf": (  # broken xref and obj header; poppler, pypdf, mupdf read it
        "indexed",
        "test example",
    ),
    "bad/pypdf-issue-301.pdf": (  # scan of squared paper with an OCR layer of noise; poppler, pypdf, mupdf agree
        "indexed",
        "1111101",
    ),
    "bad/pypdf-outline-without-title.pdf": (  # ordinary text, broken outline
        "indexed",
        "should be written in of the original language",
    ),
    "bad/pypdf-outlines-with-invalid-destinations.pdf": (  # ordinary text, broken outline
        "indexed",
        "should be written in of the original language",
    ),
    "bad/pypdf-r2-user-password.pdf": ("failed", "EncryptedDocument"),  # user password needed (R2)
    "bad/pypdf-r4-aes-user-password.pdf": ("failed", "EncryptedDocument"),  # user password needed (R4 AES)
    "bad/pypdf-r4-aes-v2-no-key-length.pdf": (  # empty user password; poppler, pypdf (with cryptography), qpdf read it
        "indexed",
        "pdf encryption test",
    ),
    "bad/pypdf-r6-both-passwords.pdf": ("failed", "EncryptedDocument"),  # user and owner password (R6)
    "bad/pypdf-r6-empty-password.pdf": (  # R6 with an empty user password; poppler, pypdf (with cryptography), qpdf
        # read it
        "indexed",
        "pdf encryption test",
    ),
    "bad/qpdf-V4-aes.pdf": (  # AES with an empty user password; poppler, pypdf, qpdf read all 30 pages
        "indexed",
        "Potato 29",
    ),
    "bad/qpdf-append-xref-loop.pdf": (  # xref /Prev loop; poppler and pypdf read 30 pages, mupdf refuses
        "indexed",
        "Potato 29",
    ),
    "bad/qpdf-bad-encryption-length.pdf": (  # UNSURE: /Length misspelt in the Encrypt dictionary: qpdf opens it with
        # the EMPTY password and finds Potato, poppler, pypdf, mupdf ask for a password; EncryptedDocument arguable
        "indexed",
        "Potato",
    ),
    "bad/qpdf-bad1.pdf": (  # UNSURE: five bytes, the word oops, under a .pdf name; text by the rule for plain text
        # named .pdf; UnreadableDocument arguable
        "indexed",
        "oops",
    ),
    "bad/qpdf-bad11.pdf": (  # UNSURE (readers only): invalid /Prev: poppler reads the update (Salad; a reader may find
        # the older Potato), pypdf TypeError
        "indexed",
        "Salad",
    ),
    "bad/qpdf-bad2.pdf": (  # UNSURE (readers only): no startxref: poppler, mupdf, qpdf rebuild it, pypdf refuses
        "indexed",
        "Potato",
    ),
    "bad/qpdf-bad23.pdf": (  # UNSURE (readers only): broken stream /Length: poppler and mupdf read it, pypdf page error
        "indexed",
        "Potato",
    ),
    "bad/qpdf-bad24.pdf": (  # UNSURE (readers only): broken stream /Length: poppler and mupdf read it, pypdf page error
        "indexed",
        "Potato",
    ),
    "bad/qpdf-bad35.pdf": (  # UNSURE: object stream of the wrong type: poppler, mupdf, qpdf read it, pypdf (and pdfium)
        # refuse; UnreadableDocument from a pdfium+pypdf pipeline is honest
        "indexed",
        "Potato",
    ),
    "bad/qpdf-bad7.pdf": (  # UNSURE: number where the trailer dictionary should be: poppler, pypdf, qpdf refuse; only
        # mupdf finds Potato
        "failed",
        "UnreadableDocument",
    ),
    "bad/qpdf-broken-lzw.pdf": (  # UNSURE: first content stream says LZW and is not; nothing in the file is ever drawn
        # as text: poppler and mupdf open it blank, pypdf page error; NoText arguable
        "failed",
        "UnreadableDocument",
    ),
    "bad/qpdf-content-stream-errors.pdf": (  # broken tails in content streams; poppler and mupdf read 4 pages, pypdf 3
        "indexed",
        "Potato",
    ),
    "bad/qpdf-deep-pages.pdf": (  # UNSURE: page tree over 100 deep, its leaf has no content and no font: poppler 0
        # pages, pypdf raises; NoText is arguable
        "failed",
        "UnreadableDocument",
    ),
    "bad/qpdf-enc-R2_V1_U-view_O-view.pdf": ("failed", "EncryptedDocument"),  # user password is view
    "bad/qpdf-enc-XI-R6_V5_U-view_O-master.pdf": ("failed", "EncryptedDocument"),  # user password is view (R6)
    "bad/qpdf-enc-long-password.pdf": ("failed", "EncryptedDocument"),  # long user password
    "bad/qpdf-encrypted-with-images.pdf": (  # empty user password; 2 pages with pictures of a logo only; poppler and
        # pypdf agree
        "failed",
        "NoText",
    ),
    "bad/qpdf-eof-in-inline-image.pdf": (  # UNSURE (readers only): content ends inside an inline image: poppler and
        # mupdf read the text before it, pypdf page error
        "indexed",
        "Potato",
    ),
    "bad/qpdf-fuzz-16214.pdf": (  # UNSURE: wrecked: poppler rebuilds one blank page, pypdf and mupdf refuse; NoText
        # arguable
        "failed",
        "UnreadableDocument",
    ),
    "bad/qpdf-fuzz-26994.fuzz": (  # PDF under an unknown extension; poppler, pypdf, mupdf read it
        "indexed",
        "Potato 29",
    ),
    "bad/qpdf-fuzz-69977.fuzz": (  # UNSURE: several fuzzed PDFs glued together, bytes before %PDF: poppler 7 blank
        # pages, pypdf and mupdf refuse; NoText or reading it as plain text arguable
        "failed",
        "UnreadableDocument",
    ),
    "bad/qpdf-issue-117.pdf": (  # UNSURE: self-referring /Length; the font dictionary is empty, so a page with one
        # image and no text; poppler and mupdf open it blank, pypdf page error
        "failed",
        "NoText",
    ),
    "bad/qpdf-issue-147.pdf": (  # UNSURE: 91 bytes, a trailer with an Encrypt reference and no body, no %PDF header;
        # poppler, pypdf, mupdf refuse; could be taken for plain text
        "failed",
        "UnreadableDocument",
    ),
    "bad/qpdf-issue-202.pdf": (  # UNSURE (readers only): poppler and mupdf read 10 pages, pypdf finds no Root
        "indexed",
        "Each chapter should be included in the main document as a separate file",
    ),
    "bad/qpdf-issue-99.pdf": (  # UNSURE: wrecked: poppler, qpdf, mupdf refuse, pypdf finds one page without text; fonts
        # are empty, so NoText is arguable
        "failed",
        "UnreadableDocument",
    ),
    "bad/qpdf-linearization-large-vector-alloc.pdf": (  # hostile hint table only; poppler, pypdf, mupdf read 30 pages
        "indexed",
        "Potato 29",
    ),
    "bad/qpdf-many-nulls.pdf": (  # 400000 nulls in an object stream (2 MB from 3 KB); one page without content; pypdf
        # opens it, poppler sees 0 pages (/Count 0)
        "failed",
        "NoText",
    ),
    "bad/qpdf-no-pages-types.pdf": ("indexed", "Potato"),  # /Type misspelt; poppler, pypdf, mupdf read it
    "bad/qpdf-outlines-with-loop.pdf": ("indexed", "Salad 29"),  # outline loops, pages are fine
    "bad/qpdf-page-no-content.pdf": ("indexed", "Potato"),  # three pages, the middle one without content
    "bad/qpdf-pages-loop.pdf": (  # UNSURE (readers only): page tree names itself: poppler and mupdf read page 1, pypdf
        # raises
        "indexed",
        "Potato",
    ),
    "bad/qpdf-stream-line-enders.pdf": (  # UNSURE: text stands in clear but stream keywords have wrong line ends: qpdf
        # mends it, poppler, mupdf (and pdfium) show a blank page, pypdf page error; NoText or UnreadableDocument
        # arguable
        "indexed",
        "Potato",
    ),
    "bad/qpdf-tokens.pdf": ("indexed", "Potato"),  # odd tokens; poppler, pypdf (most pages), mupdf read it
    "bad/qpdf-unfilterable.pdf": (  # UNSURE: content under the filter PlateDecode (it is Flate and says Potato):
        # poppler and mupdf blank page, pypdf page error; NoText arguable
        "failed",
        "UnreadableDocument",
    ),
    "bad/qpdf-xref-compressed-in-compressed.pdf": (  # poppler reads 30 pages, pypdf all but page 14; page 28 itself
        # says Potato 7 to pypdf; qpdf --check crashes
        "indexed",
        "Potato 28",
    ),
    "bad/tika-big-preamble.html": (  # windows-1251, declared only at byte 4970 after a long script; <html> starts at
        # byte 4713
        "indexed",
        "агентство недвижимости предлагает снять квартиру в аренду посуточно",
    ),
    "bad/tika-corrupted-oom.zip": (  # bare .zip; its header claims 2 GB for the 12 bytes of hello.txt
        "failed",
        "UnsupportedFormat",
    ),
    "bad/tika-deeply-embedded-attachments.pdf": (  # the page says only the letter a; 20 PDFs attached and nested
        "indexed",
        "a",
    ),
    "bad/tika-droste.zip": ("failed", "UnsupportedFormat"),  # bare .zip holding itself
    "bad/tika-epub-xml-ext.epub": (  # spine documents are named .xml; __MACOSX litter
        "indexed",
        "It was a bright cold day in April, and the clocks were striking",
    ),
    "bad/tika-password.docx": ("failed", "EncryptedDocument"),  # OLE container with EncryptedPackage
    "bad/tika-plain-text-named.pdf": (  # ASCII text under a .pdf name
        "indexed",
        "WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND",
    ),
    "bad/tika-quine.gz": ("failed", "UnsupportedFormat"),  # gzip whose content is the same gzip
    "bad/tika-recursive-embedded.docx": ("indexed", "embed_0"),  # one short paragraph; a zip in an OLE object inside
    "bad/tika-truncated.docx": (  # 763 bytes, cut off before word/document.xml, no central directory
        "failed",
        "UnreadableDocument",
    ),
    "bad/tika-xxe.xml": (  # UNSURE: XML with an external DTD and no text of its own; read as plain text the markup is
        # the text; an XML reader would say NoText
        "indexed",
        "couldnt_possibly_exist",
    ),
}
